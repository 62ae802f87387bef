//! The hosts file: hosts(5). Pure.

use std::collections::HashMap;
use std::net::IpAddr;

/// The addresses of names, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct HostsFile(HashMap<String, Vec<IpAddr>>);

impl HostsFile {
    /// Reads what is valid and ignores the rest, as the C library does.
    pub(super) fn parse(content: &[u8]) -> HostsFile {
        let mut hosts: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for line in String::from_utf8_lossy(content).lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
            for name in words {
                let known = hosts.entry(key(name)).or_default();
                if !known.contains(&address) {
                    known.push(address);
                }
            }
        }
        HostsFile(hosts)
    }

    /// The addresses of a name; `None` if the file does not have it.
    pub(super) fn find(&self, host: &str) -> Option<&[IpAddr]> {
        self.0.get(&key(host)).map(Vec::as_slice)
    }
}

fn key(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_of_several_lines_are_found() {
        let text = b"# comment\n127.0.0.1\tlocalhost\n10.0.0.1  DB.test my_db # 10.9.9.9 no\n\n\
                     10.0.0.2 db.test\nfd00::1 db.test\nfe80::1%eth0 scoped\nnonsense db.test\n10.0.0.3 caf\xe9 last\r\n";
        let hosts = HostsFile::parse(text);
        let find = |name: &str| {
            hosts.find(name).map(|all| all.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(find("db.test").as_deref(), Some("10.0.0.1 10.0.0.2 fd00::1"));
        assert_eq!(find("DB.TEST."), find("db.test"));
        assert_eq!(find("my_db").as_deref(), Some("10.0.0.1"));
        assert_eq!(find("last").as_deref(), Some("10.0.0.3"));
        for absent in ["scoped", "no", "db", "test", ""] {
            assert_eq!(find(absent), None, "{absent}");
        }
    }
}
