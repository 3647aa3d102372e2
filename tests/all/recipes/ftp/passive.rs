//! Passive mode: the client connects for each transfer, to an address that the server names.

use presocks_tests::origin::{FtpServer, http};

use super::{Session, each_server, no_lab_for};

#[test]
fn curl_and_wget_get_put_and_list_in_passive_mode() {
    if no_lab_for(&["curl", "wget"]) {
        return;
    }
    each_server(|session| {
        session.run("presocks curl -O ftp://ftp.example.org/pub/file.tar").success();
        session.assert_fetched("file.tar");
        session.run("presocks curl -T file.tar ftp://ftp.example.org/incoming/").success();
        session.assert_uploaded("file.tar");
        session.run("presocks curl -l ftp://ftp.example.org/pub/").success().stdout_has("file.tar\n");
        session.take_fetched("file.tar");
        session.run("presocks wget ftp://ftp.example.org/pub/file.tar").success();
        session.assert_fetched("file.tar");
        session.run("presocks wget -r -nH ftp://ftp.example.org/pub/docs/").success();
        session.assert_mirrored("pub/docs");
    });
}

#[test]
fn tnftp_gets_puts_and_lists_in_passive_mode() {
    if no_lab_for(&["ftp", "tnftp"]) {
        return;
    }
    each_server(|session| {
        session.run("presocks ftp ftp://ftp.example.org/pub/file.tar").success();
        session.assert_fetched("file.tar");
        session.run("presocks ftp -u ftp://ftp.example.org/incoming/file.tar file.tar").success();
        session.assert_uploaded("file.tar");
        let commands = "ls\ncd pub\nget file.tar again\nget file.tar thrice\nbye\n";
        let talk = session.recipe("presocks ftp -a ftp.example.org").stdin(commands);
        talk.run().success().stdout_has("hello.txt");
        session.assert_fetched("again");
        session.assert_fetched("thrice");
    });
}

#[test]
fn ncftp_gets_puts_and_lists_in_passive_mode() {
    if no_lab_for(&["ncftp", "ncftpget", "ncftpput", "ncftpls"]) {
        return;
    }
    each_server(|session| {
        session.run("presocks ncftpget ftp://ftp.example.org/pub/file.tar").success();
        session.assert_fetched("file.tar");
        session.run("presocks ncftpput ftp.example.org incoming file.tar").success();
        session.assert_uploaded("file.tar");
        session.run("presocks ncftpls ftp://ftp.example.org/pub/").success().stdout_has("file.tar");
        let commands = "ls\ncd pub\nget -z file.tar again\nbye\n";
        let talk = session.recipe("presocks ncftp ftp.example.org").stdin(commands);
        talk.run().success().stdout_has("hello.txt");
        session.assert_fetched("again");
    });
}

#[test]
fn lftp_gets_puts_and_mirrors_several_at_once_in_passive_mode() {
    if no_lab_for(&["lftp"]) {
        return;
    }
    each_server(|session| {
        session
            .run("presocks lftp -c 'open ftp.example.org && get pub/file.tar && put -O incoming file.tar'")
            .success();
        session.assert_uploaded("file.tar");
        session.take_fetched("file.tar");
        session.run("presocks lftp -c 'open ftp.example.org && mirror --parallel=4 pub/docs'").success();
        session.assert_mirrored("docs");
        session.run("presocks lftp -c 'open ftp.example.org && mirror -R docs incoming/docs'").success();
        session.assert_mirrored("ftp/incoming/docs");
        session.run("presocks lftp -c 'pget -n 4 ftp://ftp.example.org/pub/file.tar'").success();
        session.assert_fetched("file.tar");
    });
}

#[test]
fn lftp_goes_on_in_the_background_through_the_proxy() {
    if no_lab_for(&["lftp"]) {
        return;
    }
    each_server(|session| {
        session.run("presocks lftp -c 'open ftp.example.org && get pub/file.tar &'").success();
        session.wait_for_fetched("file.tar");
    });
}

#[test]
fn ftplib_lists_gets_and_puts_in_passive_mode() {
    if no_lab_for(&["python3"]) {
        return;
    }
    each_server(|session| {
        session
            .run("presocks python3 -c 'from ftplib import FTP; f = FTP(\"ftp.example.org\"); f.login(); f.dir(\"pub\")'")
            .success()
            .stdout_has("file.tar");
        session.ftplib(&[], "origin.test", "");
        session.ftplib(&[], "fd88::2", "");
    });
}

#[test]
fn curl_gets_over_tls_in_passive_mode() {
    if no_lab_for(&["curl"]) {
        return;
    }
    let session = Session::new(FtpServer::vsftpd_with_tls);
    let get = session.recipe("presocks curl --ssl-reqd -O ftp://ftp.example.org/pub/file.tar");
    get.env("CURL_CA_BUNDLE", FtpServer::certificate(&session.lab)).run().success();
    session.assert_fetched("file.tar");
    session.lab.assert_no_leak();
}

#[test]
fn perl_php_aria2_and_busybox_transfer_in_passive_mode() {
    if no_lab_for(&["perl", "php", "aria2c", "busybox"]) {
        return;
    }
    each_server(|session| {
        for line in [
            "presocks perl -MNet::FTP -e '$f = Net::FTP->new(\"ftp.example.org\", Passive => 1); $f->login; $f->binary; $f->get(\"pub/file.tar\")'",
            "presocks php -r '$f = ftp_connect(\"ftp.example.org\"); ftp_login($f, \"anonymous\", \"\"); ftp_pasv($f, true); ftp_get($f, \"file.tar\", \"pub/file.tar\");'",
            "presocks aria2c ftp://ftp.example.org/pub/file.tar",
            "presocks busybox ftpget ftp.example.org file.tar pub/file.tar",
        ] {
            session.run(line).success();
            session.take_fetched("file.tar");
        }
        session.lab.file("file.tar", http::large());
        session.run("presocks busybox ftpput ftp.example.org incoming/file.tar file.tar").success();
        session.assert_uploaded("file.tar");
    });
}
