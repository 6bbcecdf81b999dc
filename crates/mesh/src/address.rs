//! Where a listener listens: a TCP host and port, or the path of a Unix socket.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

/// The address of a listener, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP port. An empty host means every address of the machine, IPv4 and IPv6.
    Tcp {
        /// An IP address or a name; names are looked up when the listener binds.
        host: String,
        /// The port; 0 lets the system choose one.
        port: u16,
    },
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not an address: {reason}")]
pub struct AddressError {
    text: String,
    reason: &'static str,
}

impl Address {
    /// The address that a configuration's `network` (`tcp`, `unix`; empty means by looks) and
    /// `address` name together.
    pub fn of_network(network: &str, address: &str) -> Result<Self, AddressError> {
        let refuse = |reason| AddressError {
            text: address.to_owned(),
            reason,
        };
        match network {
            "" => address.parse(),
            "tcp" | "tcp4" | "tcp6" => tcp(address).map_err(refuse),
            "unix" => unix(strip_scheme(address).unwrap_or(address)).map_err(refuse),
            _ => Err(refuse("its network is neither \"tcp\" nor \"unix\"")),
        }
    }

    /// The socket's path, if this is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Tcp { .. } => None,
        }
    }

    /// Whether only this machine can reach the address: a Unix socket, a loopback address or
    /// `localhost`.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } if host.eq_ignore_ascii_case("localhost") => true,
            Self::Tcp { host, .. } => host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.to_canonical().is_loopback()),
        }
    }
}

/// Reads `host:port`, `:port`, `[v6]:port`, `unix:PATH`, or a path that starts with `/`, `./` or `../`.
impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let parsed = match strip_scheme(text) {
            Some(path) => unix(path),
            None if ["/", "./", "../"].iter().any(|start| text.starts_with(start)) => unix(text),
            None => tcp(text),
        };
        parsed.map_err(|reason| AddressError {
            text: text.to_owned(),
            reason,
        })
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

fn strip_scheme(text: &str) -> Option<&str> {
    text.strip_prefix("unix://")
        .or_else(|| text.strip_prefix("unix:"))
}

fn unix(path: &str) -> Result<Address, &'static str> {
    if path.is_empty() {
        return Err("the socket's path is empty");
    }
    Ok(Address::Unix(path.into()))
}

fn tcp(text: &str) -> Result<Address, &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("the port is missing")?;
    let port = port
        .parse()
        .map_err(|_| "the port is not a number from 0 to 65535")?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6,
        None if host.contains(':') => return Err("an IPv6 address needs brackets"),
        None => host,
    };
    Ok(Address::Tcp {
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp_of(host: &str, port: u16) -> Address {
        Address::Tcp {
            host: host.into(),
            port,
        }
    }

    #[test]
    fn reads_every_form() {
        let cases = [
            ("127.0.0.1:34904", tcp_of("127.0.0.1", 34904)),
            (":34904", tcp_of("", 34904)),
            ("localhost:0", tcp_of("localhost", 0)),
            ("[::1]:80", tcp_of("::1", 80)),
            ("unix:/run/l.sock", Address::Unix("/run/l.sock".into())),
            ("unix:///run/l.sock", Address::Unix("/run/l.sock".into())),
            ("unix:l.sock", Address::Unix("l.sock".into())),
            ("/run/l.sock", Address::Unix("/run/l.sock".into())),
            ("./l.sock", Address::Unix("./l.sock".into())),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Address>().unwrap(), expected, "{text}");
        }
        assert_eq!(
            Address::of_network("unix", "l.sock").unwrap(),
            Address::Unix("l.sock".into())
        );
        assert_eq!(Address::of_network("tcp", "h:1").unwrap(), tcp_of("h", 1));
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in ["", "127.0.0.1", "h:", "h:70000", "::1:80", "unix:"] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("\"{text}\" is not an address: ")),
                "{error}"
            );
        }
        assert!(Address::of_network("udp", "h:1").is_err());
    }

    #[test]
    fn prints_what_it_reads() {
        for text in ["127.0.0.1:34904", "[::1]:80", ":8080", "/run/l.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn knows_local_addresses() {
        for (text, local) in [
            ("127.0.0.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("localhost:1", true),
            ("LOCALHOST:1", true),
            ("/s", true),
            ("0.0.0.0:1", false),
            (":1", false),
            ("10.0.0.1:1", false),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().is_local(), local, "{text}");
        }
    }
}
