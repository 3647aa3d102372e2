//! Active mode: the server connects, to an address at the proxy that `--bind` has gained for the client.
//!
//! Both servers take PORT and EPRT only with the address from which the control connection comes, which is the proxy's far one.

use std::fs;
use std::time::Instant;

use presocks_tests::origin::{FtpServer, http};
use presocks_tests::proxy::{Dante, Microsocks};

use super::{Session, each_server, no_lab_for};

#[test]
fn curl_gets_puts_and_lists_in_active_mode() {
    if no_lab_for(&["curl"]) {
        return;
    }
    each_server(|session| {
        session.run("presocks --bind curl -P - -O ftp://ftp.example.org/pub/file.tar").success();
        session.assert_fetched("file.tar");
        session.run("presocks --bind curl -P - -T file.tar ftp://ftp.example.org/incoming/").success();
        session.assert_uploaded("file.tar");
        let list = session.run("presocks --bind curl -P - --disable-eprt -l ftp://ftp.example.org/pub/");
        list.success().stdout_has("file.tar\n");
    });
}

#[test]
fn wget_gets_one_and_many_in_active_mode() {
    if no_lab_for(&["wget"]) {
        return;
    }
    each_server(|session| {
        session.run("presocks --bind wget --no-passive-ftp ftp://ftp.example.org/pub/file.tar").success();
        session.assert_fetched("file.tar");
        session.run("presocks --bind wget --no-passive-ftp -r -nH ftp://ftp.example.org/pub/docs/").success();
        session.assert_mirrored("pub/docs");
    });
}

#[test]
fn tnftp_gets_puts_and_lists_in_active_mode() {
    if no_lab_for(&["ftp", "tnftp"]) {
        return;
    }
    each_server(|session| {
        session.run("presocks --bind ftp -A ftp://ftp.example.org/pub/file.tar").success();
        session.assert_fetched("file.tar");
        // With EPRT, then with PORT.
        for (first, commands) in [("a", ""), ("b", "epsv4 off\n")] {
            let commands = format!(
                "{commands}ls\ncd pub\nget file.tar {first}1\nget file.tar {first}2\nget file.tar {first}3\n\
                 cd ../incoming\nput {first}3\nbye\n"
            );
            let talk = session.recipe("presocks --bind ftp -A -a ftp.example.org").stdin(commands);
            talk.run().success().stdout_has("hello.txt");
            for name in ["1", "2", "3"] {
                session.assert_fetched(&format!("{first}{name}"));
            }
            session.assert_uploaded(&format!("{first}3"));
        }
    });
}

#[test]
fn ncftp_gets_puts_and_lists_in_active_mode() {
    if no_lab_for(&["ncftp", "ncftpget", "ncftpput", "ncftpls"]) {
        return;
    }
    each_server(|session| {
        session.run("presocks --bind ncftpget -E ftp://ftp.example.org/pub/file.tar").success();
        session.assert_fetched("file.tar");
        session.run("presocks --bind ncftpput -E ftp.example.org incoming file.tar").success();
        session.assert_uploaded("file.tar");
        let list = session.run("presocks --bind ncftpls -E ftp://ftp.example.org/pub/");
        list.success().stdout_has("file.tar");
        // By address: what the server is, ncftp compares with where the file comes from.
        session.run_with(&["--bind"], ["ncftpget", "-E", "10.88.0.2", ".", "pub/docs/0.txt"]).success();
        assert!(session.lab.directory().join("0.txt").exists());
    });
}

#[test]
fn lftp_gets_puts_and_mirrors_several_at_once_in_active_mode() {
    if no_lab_for(&["lftp"]) {
        return;
    }
    each_server(|session| {
        session
            .run(
                "presocks --bind lftp -c 'set ftp:passive-mode off; \
                 open ftp.example.org && get pub/file.tar && put -O incoming file.tar'",
            )
            .success();
        session.assert_fetched("file.tar");
        session.assert_uploaded("file.tar");
        session
            .run("presocks --bind lftp -c 'set ftp:passive-mode off; open ftp.example.org && mirror --parallel=4 pub/docs'")
            .success();
        session.assert_mirrored("docs");
    });
}

#[test]
fn lftp_sees_where_a_transfer_really_comes_from() {
    if no_lab_for(&["lftp"]) {
        return;
    }
    let session = Session::new(FtpServer::vsftpd);
    for host in ["10.88.0.2", "origin.test", "[fd88::2]"] {
        // verify-port wants port 20, which only vsftpd uses.
        let commands = format!(
            "set ftp:passive-mode off; set ftp:verify-address on; set ftp:verify-port on; set net:max-retries 1; \
             open ftp://{host} && get pub/file.tar -o got"
        );
        session.run_with(&["--bind"], ["lftp", "-c", &commands]).success();
        session.take_fetched("got");
    }
    session.lab.assert_no_leak();
}

#[test]
fn ftplib_lists_gets_and_puts_in_active_mode() {
    if no_lab_for(&["python3"]) {
        return;
    }
    each_server(|session| {
        session
            .run("presocks --bind python3 -c 'from ftplib import FTP; f = FTP(\"ftp.example.org\"); f.login(); f.set_pasv(False); f.dir(\"pub\")'")
            .success()
            .stdout_has("file.tar");
        for host in ["origin.test", "10.88.0.2", "fd88::2"] {
            session.ftplib(&["--bind"], host, "f.set_pasv(False)");
        }
    });
}

#[test]
fn perl_php_and_aria2_get_in_active_mode() {
    if no_lab_for(&["perl", "php", "aria2c"]) {
        return;
    }
    each_server(|session| {
        for line in [
            "presocks --bind perl -MNet::FTP -e '$f = Net::FTP->new(\"ftp.example.org\"); $f->login; $f->binary; $f->get(\"pub/file.tar\")'",
            "presocks --bind php -r '$f = ftp_connect(\"ftp.example.org\"); ftp_login($f, \"anonymous\", \"\"); ftp_get($f, \"file.tar\", \"pub/file.tar\");'",
            "presocks --bind aria2c --ftp-pasv=false --disable-ipv6 ftp://ftp.example.org/pub/file.tar",
        ] {
            session.run(line).success();
            session.take_fetched("file.tar");
        }
    });
}

#[test]
fn every_client_with_ipv6_is_active_over_ipv6() {
    if no_lab_for(&["curl", "wget", "tnftp", "lftp"]) {
        return;
    }
    each_server(|session| {
        let file = "ftp://[fd88::2]/pub/file.tar";
        let get = format!("set ftp:passive-mode off; set net:max-retries 1; get {file} -o lftp");
        for command in [
            &["curl", "-sS", "-P", "-", "-o", "curl", file][..],
            &["wget", "-q", "-t", "1", "--no-passive-ftp", "-O", "wget", file],
            &["tnftp", "-A", "-o", "tnftp", file],
            &["lftp", "-c", &get],
        ] {
            session.run_with(&["--bind"], command).success();
            session.assert_fetched(command[0]);
        }
        let put = ["curl", "-sS", "-P", "-", "-T", "curl", "ftp://[fd88::2]/incoming/"];
        session.run_with(&["--bind"], put).success();
        session.assert_uploaded("curl");
    });
}

#[test]
fn passive_mode_is_the_same_with_bind() {
    if no_lab_for(&["curl", "wget", "tnftp", "lftp", "ncftpget"]) {
        return;
    }
    each_server(|session| {
        let file = "ftp://origin.test/pub/file.tar";
        let get = format!("set net:max-retries 1; get {file} -o lftp");
        for command in [
            &["curl", "-sS", "-o", "curl", file][..],
            &["wget", "-q", "-t", "1", "-O", "wget", file],
            &["tnftp", "-o", "tnftp", file],
            &["lftp", "-c", &get],
            &["ncftpget", "-V", file],
        ] {
            session.run_with(&["--bind"], command).success();
        }
        for name in ["curl", "wget", "tnftp", "lftp", "file.tar"] {
            session.assert_fetched(name);
        }
    });
}

#[test]
fn a_program_without_the_shim_is_active_too() {
    if no_lab_for(&["curl", "wget", "tnftp"]) {
        return;
    }
    each_server(|session| {
        let file = "ftp://10.88.0.2/pub/file.tar";
        for command in [
            &["curl", "-sS", "-P", "-", "-o", "curl", file][..],
            &["wget", "-q", "-t", "1", "--no-passive-ftp", "-O", "wget", file],
            &["tnftp", "-A", "-o", "tnftp", file],
        ] {
            let caught = ["env", "-u", "LD_PRELOAD"].iter().chain(command);
            session.run_with(&["--bind", "--backstop=require"], caught).success();
            session.assert_fetched(command[0]);
        }
    });
}

#[test]
fn lftp_transfers_over_tls_in_active_mode() {
    if no_lab_for(&["lftp"]) {
        return;
    }
    let session = Session::new(FtpServer::vsftpd_with_tls);
    let trusted = FtpServer::certificate(&session.lab);
    session.lab.file("root-home/.lftprc", format!("set ssl:ca-file {}\n", trusted.display()));
    session
        .run(
            "presocks --bind lftp -c 'set ftp:passive-mode off; set ftp:ssl-force yes; \
             open ftp.example.org && get pub/file.tar'",
        )
        .success();
    session.assert_fetched("file.tar");
    session.lab.assert_no_leak();
}

#[test]
fn a_hundred_megabytes_arrive_whole_in_active_mode() {
    if no_lab_for(&["curl"]) {
        return;
    }
    each_server(|session| {
        let big = http::large().repeat(20);
        fs::write(session.server.root().join("pub/big"), &big).unwrap();
        let file = "ftp://origin.test/pub/big";
        let mut took = Vec::new();
        for mode in [&[][..], &["-P", "-"]] {
            let begun = Instant::now();
            let words = ["curl", "-sS", "-o", "big"].iter().chain(mode).chain([&file]);
            session.run_with(&["--bind"], words).success();
            took.push(begun.elapsed());
            assert!(fs::read(session.lab.directory().join("big")).unwrap() == big, "not the same file");
        }
        println!("{} bytes: passive {:?}, active {:?}", big.len(), took[0], took[1]);
    });
}

#[test]
fn several_clients_are_active_at_once() {
    if no_lab_for(&["curl"]) {
        return;
    }
    each_server(|session| {
        let script = "for i in 1 2 3 4 5 6 7 8; do \
                      curl -sS -P - -o got$i ftp://origin.test/pub/file.tar & pids=\"$pids $!\"; done; \
                      for pid in $pids; do wait $pid || exit 1; done";
        session.run_with(&["--bind"], ["sh", "-c", script]).success();
        for client in 1..=8 {
            session.assert_fetched(&format!("got{client}"));
        }
    });
}

#[test]
fn one_client_is_active_with_several_servers_at_once() {
    if no_lab_for(&["curl", "lftp"]) {
        return;
    }
    each_server(|session| {
        let hosts = ["10.88.0.2", "[fd88::2]", "origin.test"];
        let mut curl: Vec<String> =
            ["curl", "-sS", "-Z", "--parallel-immediate", "-P", "-"].map(str::to_owned).into();
        let mut lftp = "set ftp:passive-mode off; set net:max-retries 1; ".to_owned();
        for (number, host) in hosts.iter().enumerate() {
            curl.extend(["-o".to_owned(), format!("curl{number}"), format!("ftp://{host}/large")]);
            lftp += &format!("get ftp://{host}/large -o lftp{number} & ");
        }
        lftp += "wait all";
        session.run_with(&["--bind"], curl).success();
        session.run_with(&["--bind"], ["lftp", "-c", &lftp]).success();
        for number in 0..hosts.len() {
            session.assert_fetched(&format!("curl{number}"));
            session.assert_fetched(&format!("lftp{number}"));
        }
    });
}

#[test]
fn an_ordinary_user_is_active_and_goes_on_in_the_background() {
    if no_lab_for(&["curl", "lftp"]) {
        return;
    }
    each_server(|session| {
        let home = session.lab.directory().join("user-home");
        let run = |command: &[&str]| {
            let words = session.lab.presocks(command).options(["--bind"]).proxy(&session.proxy);
            words.ordinary_user().directory(&home).run().success();
        };
        run(&["curl", "-sS", "-P", "-", "-O", "ftp://origin.test/pub/file.tar"]);
        session.assert_fetched("user-home/file.tar");
        run(&["lftp", "-c", "set ftp:passive-mode off; get ftp://origin.test/large &"]);
        session.wait_for_fetched("user-home/large");
    });
}

#[test]
fn without_bind_a_client_in_active_mode_fails_and_nothing_leaves() {
    if no_lab_for(&["curl", "wget", "tnftp", "lftp", "ncftpget", "python3"]) {
        return;
    }
    each_server(|session| {
        for (command, code) in in_active_mode() {
            session.run_with(&[], command).code(code);
        }
    });
}

#[test]
fn a_proxy_that_refuses_bind_makes_the_client_fail_and_nothing_leaves() {
    if no_lab_for(&["curl", "wget", "tnftp", "lftp", "ncftpget", "python3"]) {
        return;
    }
    let session = Session::new(FtpServer::vsftpd);
    let proxy = Dante::connecting_only(&session.lab);
    for (command, _) in in_active_mode() {
        let outcome = session.lab.presocks(&command).options(["--bind"]).proxy(&proxy).run();
        assert!(!outcome.status.success(), "{}", outcome.report());
        outcome.stderr_has("the proxy answered: connection not allowed by ruleset (reply 2)");
    }
    session.lab.assert_no_leak();
}

#[test]
fn a_proxy_without_bind_makes_the_client_fail_and_nothing_leaves() {
    if no_lab_for(&["curl", "microsocks"]) {
        return;
    }
    let session = Session::new(FtpServer::vsftpd);
    let proxy = Microsocks::open(&session.lab);
    let active = ["curl", "-sS", "-P", "-", "ftp://origin.test/hello.txt"];
    let outcome = session.lab.presocks(active).options(["--bind"]).proxy(&proxy).run();
    outcome.code(30).stderr_has("the proxy answered: command not supported (reply 7)");
    session.lab.assert_no_leak();
}

/// A command of each client, and its exit status when it cannot be active.
fn in_active_mode() -> [(Vec<&'static str>, i32); 6] {
    let lftp = "set ftp:passive-mode off; set net:max-retries 1; get ftp://origin.test/hello.txt";
    let ftplib = "from ftplib import FTP; f = FTP('origin.test'); f.login(); f.set_pasv(False); f.nlst()";
    [
        (vec!["curl", "-sS", "-P", "-", "ftp://origin.test/hello.txt"], 30),
        (vec!["wget", "-t", "1", "--no-passive-ftp", "ftp://origin.test/hello.txt"], 4),
        (vec!["tnftp", "-A", "ftp://origin.test/hello.txt"], 1),
        (vec!["lftp", "-c", lftp], 1),
        (vec!["ncftpget", "-E", "ftp://origin.test/hello.txt"], 3),
        (vec!["python3", "-c", ftplib], 1),
    ]
}
