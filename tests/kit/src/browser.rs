//! Drives a headless Chromium: opens pages, looks at what they show, and lets axe-core check them.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::SOON;
use super::process::scratch;
use super::provision::provisioned;

/// A window and its colours.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub width: u32,
    pub height: u32,
    /// `light` or `dark`.
    pub scheme: &'static str,
}

/// A browser with one tab; ended when dropped. Its methods block their thread, each for a moment.
pub struct Browser {
    driver: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    _profile: TempDir,
}

impl Browser {
    /// The directory of the browser and its driver, or the reason why it is not available.
    pub fn available() -> Result<PathBuf, String> {
        provisioned("browser", "chromium")
    }

    pub fn start() -> Self {
        let home = Self::available().unwrap_or_else(|reason| panic!("{reason}"));
        let profile = tempfile::tempdir_in(scratch()).expect("make a directory for a browser");
        let mut driver = Command::new("node")
            .arg(home.join("drive.js"))
            .arg(profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start node");
        let commands = driver.stdin.take();
        let answers = BufReader::new(driver.stdout.take().expect("its output"));
        Self { driver, commands, answers, _profile: profile }
    }

    /// Opens a page in a new tab.
    pub fn open(&mut self, url: &str, Window { width, height, scheme }: Window) {
        self.ask(json!({"do": "open", "url": url, "width": width, "height": height, "scheme": scheme}));
    }

    /// Returns the value of an expression of JavaScript in the page.
    pub fn look(&mut self, script: &str) -> Value {
        self.ask(json!({"do": "look", "script": script}))
    }

    /// Returns the text that an element shows.
    pub fn text(&mut self, selector: &str) -> String {
        let shown = self.look(&format!("document.querySelector({})?.innerText ?? ''", json!(selector)));
        shown.as_str().expect("a text").to_owned()
    }

    /// Waits until the expression is true in the page.
    pub async fn until(&mut self, script: &str) {
        let deadline = Instant::now() + SOON;
        while self.look(&format!("Boolean({script})")) != json!(true) {
            let shown = self.text("body");
            assert!(Instant::now() < deadline, "still waiting until {script}; the page shows: {shown}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the element shows a text that contains `part`.
    pub async fn shows(&mut self, selector: &str, part: &str) {
        let (selector, part) = (json!(selector), json!(part));
        self.until(&format!("document.querySelector({selector})?.innerText.includes({part})")).await;
    }

    /// Presses a key, such as `Tab`.
    pub fn press(&mut self, key: &str) {
        self.ask(json!({"do": "press", "key": key}));
    }

    /// Returns what axe-core finds wrong.
    pub fn violations(&mut self) -> Vec<String> {
        texts(&self.ask(json!({"do": "check"})))
    }

    /// Returns the errors that the page has written since the last call.
    pub fn complaints(&mut self) -> Vec<String> {
        texts(&self.ask(json!({"do": "complaints"})))
    }

    /// Writes a picture of the window, as PNG.
    pub fn picture(&mut self, file: &Path) {
        self.ask(json!({"do": "picture", "file": file}));
    }

    fn ask(&mut self, command: Value) -> Value {
        let commands = self.commands.as_mut().expect("the driver listens");
        writeln!(commands, "{command}").expect("the driver takes a command");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("an answer");
        let answer: Value =
            serde_json::from_str(&answer).unwrap_or_else(|_| panic!("the driver has ended at {command}"));
        answer["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // At the end of its input the driver closes the browser, which `kill` would leave behind.
        drop(self.commands.take());
        drop(self.driver.wait());
    }
}

fn texts(list: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    list.as_array().expect("a list").iter().map(text).collect()
}
