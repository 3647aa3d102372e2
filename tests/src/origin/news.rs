//! INN, a news server, with one group; its readers must give a user and a password. It keeps everything in the lab's directory.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use crate::daemon::Daemon;
use crate::lab::{Lab, ORIGIN, PASSWORD, USER};

/// The group that readers may read and post to.
pub const GROUP: &str = "lab.news";

const PROGRAMS: &str = "/usr/lib/news/bin";

/// A running innd on port 119, which hands its readers to nnrpd: [`USER`] with [`PASSWORD`].
#[derive(Debug)]
pub struct NewsServer {
    _daemon: Daemon,
    articles: PathBuf,
}

impl NewsServer {
    /// Starts it, with an empty group.
    #[must_use]
    pub fn start(lab: &Lab) -> Self {
        let home = lab.directory().join("inn");
        let (home, configuration) = (home.display(), lab.directory().join("inn/inn.conf"));
        lab.origin.setup(&["bash", "-e"], &script(&home.to_string()));
        let mut command = Command::new("setpriv");
        command.env_clear().env("INNCONF", configuration);
        command.args(["--reuid=news", "--regid=news", "--clear-groups", &format!("{PROGRAMS}/innd"), "-d"]);
        let daemon = Daemon::start(lab, &lab.origin, "innd", &mut command, SocketAddr::from((ORIGIN, 119)));
        Self { _daemon: daemon, articles: lab.directory().join("inn/articles/lab/news") }
    }

    /// The article in the group whose header or body has this text; panics when there is none, or when there are several.
    pub fn article_with(&self, text: &str) -> String {
        let files = fs::read_dir(&self.articles).expect("the group has articles");
        let articles =
            files.map(|file| fs::read_to_string(file.expect("an article").path()).expect("read it"));
        let mut found: Vec<_> = articles.filter(|article| article.contains(text)).collect();
        assert_eq!(found.len(), 1, "articles with {text:?}: {found:?}");
        found.remove(0)
    }
}

/// Makes the server's directories, its configuration, and its empty history.
///
/// Connections from localhost are innd's own peers; all others are readers, who are served however busy the machine is.
fn script(home: &str) -> String {
    format!(
        r#"mkdir {home}
        cd {home}
        mkdir -p db articles overview incoming/tmp incoming/bad outgoing run log etc/filter
        cat > inn.conf << END
mta: "/bin/false %s"
domain: origin.test
pathhost: news.origin.test
pathnews: /usr/lib/news
pathbin: {PROGRAMS}
pathdb: {home}/db
pathspool: {home}
patharticles: {home}/articles
pathoverview: {home}/overview
pathincoming: {home}/incoming
pathtmp: {home}/incoming/tmp
pathoutgoing: {home}/outgoing
pathrun: {home}/run
pathlog: {home}/log
pathetc: {home}/etc
pathfilter: {home}/etc/filter
hismethod: hisv6
ovmethod: tradindexed
enableoverview: true
nnrpdloadlimit: 0
END
        printf 'method tradspool {{\n newsgroups: *\n class: 0\n}}\n' > etc/storage.conf
        echo 'ME:!*/!local::' > etc/newsfeeds
        printf 'peer ME {{\n hostname: localhost\n}}\n' > etc/incoming.conf
        echo 'all:*:drop' > etc/control.ctl
        cat > etc/readers.conf << END
auth "users" {{
    auth: "ckpasswd -f {home}/etc/users"
    default: "<unknown>"
}}
access "users" {{
    users: "*,!<unknown>"
    newsgroups: "*"
    access: RPA
}}
END
        echo '{USER}:'$(openssl passwd -6 {PASSWORD}) > etc/users
        for group in {GROUP} control control.cancel junk; do
            echo "$group 0000000000 0000000001 y"
        done > db/active
        printf '{GROUP}\tA group of the laboratory\n' > db/newsgroups
        touch db/active.times db/history
        chown -R news:news .
        INNCONF={home}/inn.conf {PROGRAMS}/makedbz -i -o -s 1000
        "#
    )
}
