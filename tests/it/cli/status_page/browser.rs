//! Tests what a real browser shows of a bridge that works, has a sink in trouble, and restarts.

use kit::admin::Admin;
use kit::browser::{Browser, Window};
use kit::did_not_run;
use kit::ports::{free_port, loopback};
use kit::scenario::{Unusable, drain};

use super::{generate, setup, simulator};

const QUEUE: &str = "main.RTO.acme";
pub(super) const DESKTOP: Window = Window { width: 1000, height: 900, scheme: "light" };
pub(super) const PHONE: Window = Window { width: 390, height: 844, scheme: "light" };

pub(super) fn dark(window: Window) -> Window {
    Window { scheme: "dark", ..window }
}

/// Whether there is a browser. If not, prints that `test` did not run.
pub(super) fn has_browser(test: &str) -> bool {
    let available = Browser::available();
    available.map_err(|reason| did_not_run(&format!("cli::status_page::{test}"), &reason)).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_a_bridge_at_work_with_a_sink_in_trouble_and_after_a_restart() {
    if !has_browser("browser::a_browser_shows_a_bridge_at_work_with_a_sink_in_trouble_and_after_a_restart") {
        return;
    }
    let simulator = simulator().await;
    let home = tempfile::tempdir().unwrap();
    // The error names the directory: a text from outside, which must never be markup.
    let files = home.path().join("<b id=forged>files");
    let address = loopback(free_port());
    let setup = setup(&simulator)
        .set("SINKS__FILE__DIRECTORY", files.to_str().unwrap())
        .set("ADMIN__LISTEN", address.to_string());
    let bridge = setup.start();
    Admin::of(&bridge).await.ready().await;
    generate(&simulator);
    let mut browser = Browser::start();
    browser.open(&format!("http://{address}/"), DESKTOP);

    // It renders, and goes on by itself.
    browser.shows("#word", "Ready").await;
    browser.shows("#summary", "events/s").await;
    browser.shows(".queue h2", QUEUE).await;
    browser.until("document.title.startsWith('Ready')").await;
    browser.until("document.querySelectorAll('.line')[0].getAttribute('d').length > 20").await;
    browser.until("document.querySelectorAll('svg[role=img]')[0].ariaLabel.includes('now 1')").await;
    browser.look(
        "word = document.getElementById('word'); changes = 0; \
         new MutationObserver(() => changes += 1).observe(word, {childList: true, subtree: true, characterData: true}); 0",
    );
    let before = browser.text("[data-slot=counts]");
    browser
        .until(&format!(
            "document.querySelector('[data-slot=counts]').innerText !== {}",
            serde_json::json!(before)
        ))
        .await;
    assert_eq!(browser.look("changes"), 0, "nothing is read aloud while only numbers change");
    browser.shows("#letters", "key_missing").await;
    browser.shows("#letters", "ID:").await;

    // A sink goes down and comes back.
    let unusable = Unusable::make(&files);
    browser.shows("#word", "Not ready: sink file").await;
    browser.shows("#reasons", "<b id=forged>files").await;
    browser.shows("#parts tr:first-child", "sink file").await;
    browser.until("document.querySelector('#parts tr:first-child td.state').innerText !== 'ready'").await;
    assert_eq!(browser.look("document.querySelector('[id=forged]')"), serde_json::Value::Null);
    assert_eq!(browser.violations(), [""; 0]);
    unusable.restore();
    browser.shows("#word", "Ready").await;
    browser.until("document.getElementById('reasons').children.length === 0").await;

    // Everything that reacts is reached by the keyboard, and shows that it is.
    for _ in 0..20 {
        browser.press("Tab");
        if browser.look("document.activeElement.tagName") == "SUMMARY" {
            break;
        }
    }
    assert_ne!(browser.look("getComputedStyle(document.activeElement).outlineStyle"), "none");
    browser.press("Enter");
    browser.shows("#options", "source.password").await;
    browser.shows("#options", "\"***\"").await;
    assert_eq!(browser.look("/[0-9a-f]{32}/.test(document.documentElement.innerHTML)"), false, "no key");
    assert_eq!(browser.complaints(), [""; 0]);

    // A bridge that says nothing is no bridge that is well, even while the connection stays open.
    bridge.freeze();
    browser.shows("#word", "Connection lost").await;
    bridge.thaw();
    browser.shows("#word", "Ready").await;

    // It tells that the bridge is gone, and goes on with the next one.
    bridge.kill();
    browser.shows("#word", "Connection lost").await;
    browser.shows("#lost", "Since ").await;
    assert_eq!(browser.violations(), [""; 0]);
    let bridge = setup.start();
    browser.shows("#word", "Ready").await;
    browser.until("document.getElementById('lost').hidden").await;
    browser.shows("#summary", "events/s").await;

    for window in [DESKTOP, dark(DESKTOP), PHONE, dark(PHONE)] {
        browser.open(&format!("http://{address}/"), window);
        browser.shows("#summary", "behind").await;
        browser.look("document.getElementById('config').open = true");
        browser.shows("#options", "source.password").await;
        assert_eq!(browser.violations(), [""; 0], "{window:?}");
        let is_wider = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
        assert_eq!(browser.look(is_wider), false, "{window:?}");
    }
    drain(bridge).await;
}
