//! Checks the addresses of servers in the option `url`.

use async_nats::ServerAddr;

use crate::diagnostics::Diagnostics;

const FORMS: &str = "nats://host:port or tls://host:port, several separated by commas";

/// Checks `url`. No message quotes it, because it may contain a secret.
pub(super) fn check(url: Option<&str>, diagnostics: &mut Diagnostics) -> Option<Vec<String>> {
    let given = diagnostics.required("url", url, &format!("write {FORMS}"))?;
    let servers: Result<Vec<String>, String> = given.split(',').map(|part| server(part.trim())).collect();
    servers.map_err(|message| diagnostics.refuse("url", message)).ok()
}

fn server(url: &str) -> Result<String, String> {
    if url.contains('@') {
        return Err(
            "no user, password or token in a url: set `username` and `password_file`, or `token_file`"
                .to_owned(),
        );
    }
    let Some((scheme, rest)) = url.split_once("://") else { return Err(format!("write {FORMS}")) };
    if !["nats", "tls"].contains(&scheme) {
        return Err(format!("this scheme is not supported: write {FORMS}"));
    }
    let address = rest.strip_suffix('/').unwrap_or(rest);
    let parsed = format!("{scheme}://{address}").parse::<ServerAddr>();
    match parsed {
        Ok(server)
            if !server.host().is_empty() && !address.contains(['/', '?', '#']) && server.port() != 0 =>
        {
            Ok(server.as_url_str().to_owned())
        }
        _ => Err(format!("host or port can't be right: write {FORMS}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(url: &str) -> Result<Vec<String>, String> {
        let mut diagnostics = Diagnostics::default();
        let servers = check(Some(url), &mut diagnostics);
        servers.ok_or_else(|| diagnostics.problems()[0].message.clone())
    }

    #[test]
    fn one_or_several_servers() {
        assert_eq!(checked("nats://localhost:4222"), Ok(vec!["nats://localhost:4222".to_owned()]));
        let servers = checked("nats://a, tls://10.0.0.1:5000/ ,tls://[::1]:6000").unwrap();
        assert_eq!(servers, ["nats://a", "tls://10.0.0.1:5000", "tls://[::1]:6000"]);
    }

    #[test]
    fn everything_else_says_what_to_write() {
        for (url, part) in [
            ("localhost:4222", "write nats://"),
            ("ws://localhost:80", "not supported"),
            ("nats://", "can't be right"),
            ("nats://a:99999", "can't be right"),
            ("nats://a:0", "can't be right"),
            ("nats://a:4222/x", "can't be right"),
            ("nats://a,", "write nats://"),
        ] {
            let error = checked(url).unwrap_err();
            assert!(error.contains(part), "{url}: {error}");
        }
    }

    #[test]
    fn secrets_are_refused_and_not_repeated() {
        for url in ["nats://user:hush@host:1", "tls://hush@host:1", "nats://a,nats://hush@b"] {
            let error = checked(url).unwrap_err();
            assert!(error.contains("password_file") && !error.contains("hush"), "{error}");
        }
    }
}
