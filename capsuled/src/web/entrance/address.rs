//! Where the web board is served: a loopback address or a Unix socket, unless names are given.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::bail;

/// Where it is served unless said otherwise; another port when that one is taken.
const USUAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7788);

/// What `capsuled run` is told of the web board.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct WebArgs {
    /// Where the web board is served: an address and port, the path of a Unix socket, or off
    /// [default: 127.0.0.1:7788 as soon as `capsule web` asks; off in a service of the system].
    #[arg(long, value_name = "ADDRESS|PATH|off", env = "CAPSULE_WEB")]
    pub web: Option<WebAt>,
    /// A name besides localhost under which people reach the web board; an address that others
    /// reach needs one.
    #[arg(long, value_name = "NAME")]
    pub web_name: Vec<String>,
    /// The web board shows and changes nothing.
    #[arg(long, env = "CAPSULE_WEB_READ_ONLY")]
    pub web_read_only: bool,
    /// The web board shows no arguments of tasks.
    #[arg(long, env = "CAPSULE_WEB_HIDE_ARGUMENTS")]
    pub web_hide_arguments: bool,
}

/// A place to serve at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebAt {
    /// Nowhere.
    Off,
    /// An address.
    Address(SocketAddr),
    /// A Unix socket.
    Socket(PathBuf),
}

impl FromStr for WebAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        if text.contains('/') {
            return Ok(Self::Socket(PathBuf::from(text)));
        }
        let address = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        address.parse().map(Self::Address).map_err(|_| {
            format!(
                "{text:?} is none of an address as 127.0.0.1:7788, the path of a socket and off"
            )
        })
    }
}

/// How the board is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::web) struct Plan {
    pub(in crate::web) at: WebAt,
    /// From the start on, not only when asked.
    pub(in crate::web) at_once: bool,
    /// Names besides those of this machine to itself.
    pub(in crate::web) names: Vec<String>,
    /// It shows, and changes nothing.
    pub(in crate::web) read_only: bool,
    /// What tasks were given is not shown.
    pub(in crate::web) hides_arguments: bool,
}

impl Plan {
    /// What the flags mean.
    ///
    /// # Errors
    /// Others would reach it, and no name says that they should.
    pub(super) fn of(args: &WebArgs) -> anyhow::Result<Self> {
        let at_once = args.web.is_some();
        let usual = || if of_the_system() { WebAt::Off } else { WebAt::Address(USUAL) };
        let at = args.web.clone().unwrap_or_else(usual);
        if let WebAt::Address(address) = &at
            && !address.ip().is_loopback()
            && args.web_name.is_empty()
        {
            bail!(
                "others reach {address}: say under which name with --web-name, or keep to 127.0.0.1"
            );
        }
        let names = args.web_name.iter().map(|name| name.to_ascii_lowercase()).collect();
        Ok(Self {
            at,
            at_once,
            names,
            read_only: args.web_read_only,
            hides_arguments: args.web_hide_arguments,
        })
    }

    /// Whether another port will do: nobody has named one.
    pub(in crate::web) const fn any_port(&self) -> bool {
        !self.at_once
    }

    /// Whether a `Host` names this board. The port is not compared: it may have been forwarded.
    pub(in crate::web) fn is_reached_as(&self, host: &str) -> bool {
        let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, "")) => (address, "0"),
            Some((address, rest)) => (address, rest.strip_prefix(':').unwrap_or("none")),
            None => host.split_once(':').unwrap_or((host, "0")),
        };
        if port.parse::<u16>().is_err() {
            return false;
        }
        let name = name.to_ascii_lowercase();
        ["localhost", "127.0.0.1", "::1"].contains(&name.as_str()) || self.names.contains(&name)
    }

    /// What a link to an address begins with.
    pub(in crate::web) fn base(&self, address: Option<SocketAddr>) -> String {
        let port = address.map(|address| format!(":{}", address.port())).unwrap_or_default();
        match (address, self.names.first()) {
            (Some(address), _) if address.ip().is_loopback() => format!("http://{address}"),
            (_, Some(name)) => format!("http://{name}{port}"),
            (_, None) => "http://localhost".to_owned(),
        }
    }
}

/// Whether the system's service manager started this process: it has an invocation and no folder of
/// a user, as those of a user's own manager and of a shell have.
fn of_the_system() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    is_set("INVOCATION_ID") && !is_set("XDG_RUNTIME_DIR")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(web: &str, names: &[&str]) -> anyhow::Result<Plan> {
        let web_name = names.iter().map(|&name| name.to_owned()).collect();
        let web = Some(web.parse().unwrap());
        Plan::of(&WebArgs { web, web_name, ..WebArgs::default() })
    }

    #[test]
    fn places_are_read_as_people_write_them() {
        assert_eq!("off".parse(), Ok(WebAt::Off));
        assert_eq!("/run/board".parse(), Ok(WebAt::Socket(PathBuf::from("/run/board"))));
        assert_eq!("localhost:80".parse::<WebAt>(), "127.0.0.1:80".parse());
        assert!("7788".parse::<WebAt>().is_err());
        assert!("example.org:80".parse::<WebAt>().is_err());
    }

    #[test]
    fn others_reach_it_only_by_a_name() {
        for open in ["0.0.0.0:7788", "[::]:7788", "192.0.2.7:80"] {
            assert!(plan(open, &[]).is_err(), "{open}");
            assert!(plan(open, &["board.example.org"]).is_ok(), "{open}");
        }
        assert!(plan("127.0.0.2:1", &[]).is_ok());
    }

    #[test]
    fn only_its_own_names_are_its_own() {
        let plan = plan("127.0.0.1:7788", &["Board.example.org"]).unwrap();
        for own in [
            "127.0.0.1:7788",
            "localhost:9999",
            "LOCALHOST",
            "[::1]:7788",
            "board.example.org",
            "board.EXAMPLE.org:80",
        ] {
            assert!(plan.is_reached_as(own), "{own}");
        }
        for other in [
            "",
            "evil.example:7788",
            "127.0.0.1.evil.example",
            "localhost.evil.example:7788",
            "evil.localhost",
            "[::1].evil.example",
            "[::1]@evil.example",
            "localhost:80@evil.example",
            "127.0.0.2:7788",
            "board.example.org.",
        ] {
            assert!(!plan.is_reached_as(other), "{other}");
        }
    }
}
