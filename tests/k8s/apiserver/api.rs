//! Sends requests to the API server over HTTP.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::http::{Request, Response};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use kit::SOON;
use kit::helm::NAMESPACE;
use kit::helm::objects::{list, name_of, text, title};

pub struct Api {
    agent: Agent,
    server: String,
    token: String,
}

impl Api {
    /// Reads the server and the administrator from a kubeconfig in JSON.
    pub fn of(kubeconfig: &Path) -> Self {
        let config: Value = serde_json::from_str(&fs::read_to_string(kubeconfig).unwrap()).unwrap();
        let cluster = &config["clusters"][0]["cluster"];
        let authority = fs::read(text(&cluster["certificate-authority"])).unwrap();
        let certificates = parse_pem(&authority).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        });
        let roots = RootCerts::Specific(Arc::new(certificates.collect::<Vec<Certificate<'static>>>()));
        let tls = TlsConfig::builder().root_certs(roots).build();
        let agent = Agent::config_builder().tls_config(tls).http_status_as_error(false).build();
        let token = text(&config["users"][0]["user"]["token"]).into();
        Self { agent: agent.into(), server: text(&cluster["server"]).into(), token }
    }

    pub fn version(&self) -> String {
        let (_, _, version) = self.ask("GET", "/version", "application/json", &Value::Null);
        text(&version["gitVersion"]).into()
    }

    pub fn create(&self, object: &Value) {
        let made = self.post(object, "");
        made.unwrap_or_else(|error| panic!("{}: {error}", title(object)));
    }

    /// Asks the server to validate an object without storing it. A warning is an error too.
    pub fn dry_run(&self, object: &Value) -> Result<(), String> {
        self.post(object, "?dryRun=All&fieldValidation=Strict")
    }

    /// Returns the stored object with the kind, the namespace and the name of `object`.
    pub fn stored(&self, object: &Value) -> Option<Value> {
        let path = format!("{}/{}", self.collection(object), name_of(object));
        let (status, _, stored) = self.ask("GET", &path, "application/json", &Value::Null);
        assert!(status == 200 || status == 404, "{path}: {stored}");
        (status == 200).then_some(stored)
    }

    /// Asks the server to validate a change of a stored object, without changing it.
    pub fn change(&self, object: &Value, change: &Value) -> Result<(), String> {
        let path = format!("{}/{}?dryRun=All", self.collection(object), name_of(object));
        let (status, warnings, answer) = self.ask("PATCH", &path, "application/merge-patch+json", change);
        result_of(status, &warnings, &answer)
    }

    /// Waits until the server serves `kinds` kinds of a newly defined group.
    #[expect(clippy::disallowed_methods, reason = "no worker thread: nothing else runs on this one")]
    pub fn wait_for(&self, group: &str, kinds: usize) {
        let deadline = Instant::now() + SOON;
        loop {
            let (_, _, answer) = self.ask("GET", &format!("/apis/{group}"), "application/json", &Value::Null);
            let served = list(&answer["resources"]).filter(|kind| !text(&kind["name"]).contains('/'));
            if served.count() >= kinds {
                return;
            }
            assert!(Instant::now() < deadline, "no {kinds} kinds of {group} after {SOON:?}: {answer}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn post(&self, object: &Value, options: &str) -> Result<(), String> {
        let path = format!("{}{options}", self.collection(object));
        let (status, warnings, answer) = self.ask("POST", &path, "application/json", object);
        result_of(status, &warnings, &answer)
    }

    /// The path of the collection of an object's kind, in its namespace.
    fn collection(&self, object: &Value) -> String {
        let version = text(&object["apiVersion"]);
        let group =
            if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
        let (_, _, kinds) = self.ask("GET", &group, "application/json", &Value::Null);
        let mut kinds = list(&kinds["resources"]);
        let own = |kind: &&Value| kind["kind"] == object["kind"] && !text(&kind["name"]).contains('/');
        let kind = kinds.find(own).unwrap_or_else(|| panic!("the API server knows no {}", title(object)));
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or(NAMESPACE);
        let inside =
            if kind["namespaced"] == true { format!("/namespaces/{namespace}") } else { String::new() };
        format!("{group}{inside}/{}", text(&kind["name"]))
    }

    /// Sends a request. Returns the status, the warnings and the response.
    fn ask(&self, method: &str, path: &str, kind: &str, body: &Value) -> (u16, Vec<String>, Value) {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server))
            .header("Authorization", format!("Bearer {}", self.token))
            .header("Content-Type", kind)
            .body(if body.is_null() { String::new() } else { body.to_string() })
            .unwrap();
        let mut response: Response<Body> =
            self.agent.run(request).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let warnings = response.headers().get_all("Warning").iter();
        let warnings = warnings.map(|warning| warning.to_str().unwrap().into()).collect();
        let answer = response.body_mut().read_to_string().unwrap();
        let answer = serde_json::from_str(&answer).unwrap_or(json!({"message": answer}));
        (response.status().as_u16(), warnings, answer)
    }
}

fn result_of(status: u16, warnings: &[String], answer: &Value) -> Result<(), String> {
    match warnings {
        _ if !(200..300).contains(&status) => Err(text(&answer["message"]).into()),
        [] => Ok(()),
        warnings => Err(warnings.join("; ")),
    }
}
