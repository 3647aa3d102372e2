//! FTP, in passive and in active mode: every client against vsftpd and proftpd.

use std::ffi::OsStr;
use std::fs;

use presocks_tests::command::{Invocation, Outcome};
use presocks_tests::origin::{FtpServer, ftp, http};
use presocks_tests::proxy::Dante;
use presocks_tests::{Lab, missing, patience};

mod aborted;
mod active;
mod passive;

/// A lab with an FTP server and a proxy in it.
struct Session {
    server: FtpServer,
    proxy: Dante,
    /// Last: a lab's end waits for the servers to be gone.
    lab: Lab,
}

impl Session {
    fn new(server: fn(&Lab) -> FtpServer) -> Self {
        let lab = Lab::new();
        Self { server: server(&lab), proxy: Dante::with_password(&lab), lab }
    }

    /// A line of docs/recipes.md, to run as it stands there, but for the server's name, through the proxy.
    fn recipe(&self, line: &str) -> Invocation<'_> {
        let recipes = include_str!("../../../docs/recipes.md");
        assert!(recipes.lines().any(|other| other == line), "docs/recipes.md does not have the line\n{line}");
        let command = line.strip_prefix("presocks ").expect("a recipe begins with presocks");
        let (options, command) = match command.strip_prefix("--bind ") {
            Some(command) => (&["--bind"][..], command),
            None => (&[][..], command),
        };
        let here = command.replace("ftp.example.org", "origin.test");
        self.lab.presocks(["sh", "-c", &here]).options(options).proxy(&self.proxy)
    }

    fn run(&self, line: &str) -> Outcome {
        self.recipe(line).run()
    }

    /// Another command, with options of presocks.
    fn run_with<W: AsRef<OsStr>>(&self, options: &[&str], command: impl IntoIterator<Item = W>) -> Outcome {
        self.lab.presocks(command).options(options).proxy(&self.proxy).run()
    }

    /// Lists, gets three times and puts with ftplib; `before` is Python, for a client `f` that has logged in to `host`.
    fn ftplib(&self, options: &[&str], host: &str, before: &str) -> Outcome {
        let program = format!(
            "import ftplib, sys\n\
             f = ftplib.FTP(sys.argv[1], timeout=50)\n\
             f.login()\n\
             {before}\n\
             assert 'hello.txt' in f.nlst(), f.nlst()\n\
             for name in 'abc':\n    with open(name, 'wb') as file: f.retrbinary('RETR large', file.write)\n\
             f.storbinary('STOR incoming/by-ftplib', open('c', 'rb'))\n\
             f.quit()\n"
        );
        let outcome =
            self.lab.presocks(["python3", "-c", &program, host]).options(options).proxy(&self.proxy).run();
        outcome.success();
        for name in ["a", "b", "c"] {
            self.assert_fetched(name);
        }
        self.assert_uploaded("by-ftplib");
        outcome
    }

    /// The client's file is `pub/file.tar` of the server.
    fn assert_fetched(&self, name: &str) {
        assert!(
            fs::read(self.lab.directory().join(name)).unwrap() == http::large(),
            "{name} is another file"
        );
    }

    /// The same in a while.
    fn wait_for_fetched(&self, name: &str) {
        let file = self.lab.directory().join(name);
        patience::wait_until("a transfer to end in the background", || {
            fs::metadata(&file).is_ok_and(|file| file.len() == http::LARGE_LENGTH as u64)
        });
        self.assert_fetched(name);
    }

    /// The same, and then it is gone.
    fn take_fetched(&self, name: &str) {
        self.assert_fetched(name);
        fs::remove_file(self.lab.directory().join(name)).unwrap();
    }

    /// The server has this file in `incoming`, and it is the same as `pub/file.tar`.
    fn assert_uploaded(&self, name: &str) {
        assert!(self.server.uploaded(name).as_deref() == Some(http::large()), "{name} did not arrive whole");
    }

    /// The directory, a path in the lab's, is the server's `pub/docs`.
    fn assert_mirrored(&self, directory: &str) {
        for number in 0..ftp::DOCS {
            let path = self.lab.directory().join(directory).join(ftp::doc_path(number));
            assert_eq!(fs::read_to_string(&path).unwrap(), ftp::doc(number), "{}", path.display());
        }
    }
}

/// Does the same with both servers, each in a lab of its own, and sees that nothing leaked.
fn each_server(work: impl Fn(&Session)) {
    for server in [FtpServer::vsftpd, FtpServer::proftpd] {
        let session = Session::new(server);
        work(&session);
        session.lab.assert_no_leak();
    }
}

/// True when the servers, the proxy or one of the clients is missing.
fn no_lab_for(clients: &[&str]) -> bool {
    missing(&["vsftpd", "proftpd", "danted"]) || missing(clients)
}

#[test]
fn both_servers_connect_to_the_host_that_asks_and_to_no_other() {
    if no_lab_for(&["python3"]) {
        return;
    }
    for server in [FtpServer::vsftpd, FtpServer::proftpd] {
        let lab = Lab::new();
        let _server = server(&lab);
        lab.permit_direct("10.88.0.2");
        lab.permit_direct("fd88::2");
        let program = "import ftplib, sys\n\
                       f = ftplib.FTP(sys.argv[1])\n\
                       f.login()\n\
                       f.set_pasv(False)\n\
                       print(f.nlst())\n\
                       try: print(f.sendcmd(sys.argv[2]))\n\
                       except ftplib.error_perm: print('refused')\n";
        for (host, command) in [("10.88.0.2", "PORT 10,88,0,9,9,9"), ("fd88::2", "EPRT |2|fd88::9|2313|")] {
            let outcome = lab.bare(["python3", "-c", program, host, command]).run();
            outcome.success().stdout_has("hello.txt").stdout_has("\nrefused\n");
        }
        lab.assert_no_leak();
    }
}
