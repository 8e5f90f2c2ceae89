//! Takes the pictures of the documentation, of a real bridge, in 20 minutes:
//! `WRITE_STATUS_PAGE=1 cargo test --test it status_page::pictures`.

use std::fs;
use std::path::Path;

use atdata_bridge::simulator::{Generation, GeneratorConfig, Rate, Simulator};
use kit::admin::Admin;
use kit::any_kafka::AnyKafka;
use kit::bridge::Setup;
use kit::browser::{Browser, Window};
use kit::nats::{self, NatsServer, make_stream};

use super::browser::{DESKTOP, PHONE, dark, has_browser};
use super::{simulator, sizes};

/// The number of samples that the page shows, as in `telemetry/history.rs`.
const SAMPLES: usize = 180;
/// The most bytes of a picture.
const LARGEST: u64 = 150_000;

fn generate(simulator: &Simulator, events: Option<u64>, rate: Rate, odd_every: u64) {
    let generator = GeneratorConfig { odd_every, ..GeneratorConfig::default() };
    simulator.generate("acme", Generation { events, rate, generator });
}

fn per_second(events: u32) -> Rate {
    Rate::PerSecond(events.try_into().unwrap())
}

/// Opens the page and writes what a window of it shows, from the top or from the end.
async fn picture(browser: &mut Browser, admin: &Admin, name: &str, window: Window, word: &str, is_end: bool) {
    browser.open(&format!("http://{}/", admin.0), window);
    browser.shows("#word", word).await;
    browser.until("document.querySelector('.line').getAttribute('d')").await;
    if is_end {
        browser.look("scrollTo(0, document.body.scrollHeight)");
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/status-page").join(format!("{name}.png"));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    browser.picture(&file);
    let size = fs::metadata(&file).unwrap().len();
    assert!(size < LARGEST, "{name}: {size} bytes");
}

/// Waits until the duration that an element shows is a minute or more.
async fn a_minute(browser: &mut Browser, selector: &str) {
    for shown in [r"[2-5]\d s|min", r"[4-5]\d s|min", "min"] {
        browser.until(&format!("/{shown}/.test(document.querySelector('{selector}').innerText)")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_for_the_documentation() {
    let test = "pictures::pictures_for_the_documentation";
    if std::env::var_os("WRITE_STATUS_PAGE").is_none() || !has_browser(test) || !nats::available(test) {
        return;
    }
    let (simulator, kafka, nats) = (simulator().await, AnyKafka::start(), NatsServer::start(""));
    kafka.create_topic("atdata", 12);
    make_stream(&nats.jetstream().await, "ATDATA", &["atdata.>"]).await;
    let setup = Setup::at(&simulator.url(), "acme", "main", "acme-main-atdata-bridge-0")
        .set("SINKS__KAFKA__BROKERS", kafka.bootstrap())
        .set("SINKS__KAFKA__TOPIC", "atdata")
        .set("SINKS__NATS__URL", nats.url())
        .set("SINKS__NATS__STREAM", "ATDATA");
    let bridge = setup.start();
    let admin = Admin::of(&bridge).await;
    admin.ready().await;
    generate(&simulator, None, per_second(150), 5000);
    let mut events = admin.events().await.unwrap();
    while sizes(&events.document("history").await).2 < SAMPLES {
        let rate = fastrand::u32(5..40);
        generate(&simulator, Some(u64::from(rate) * fastrand::u64(5..30)), per_second(rate), 0);
    }
    drop(events);

    let browser = &mut Browser::start();
    picture(browser, &admin, "well", DESKTOP, "Ready", false).await;
    picture(browser, &admin, "well-phone", dark(PHONE), "Ready", false).await;
    picture(browser, &admin, "dead-letters", dark(DESKTOP), "Ready", true).await;

    nats.kill();
    browser.shows("#word", "Not ready: sink nats").await;
    a_minute(browser, "#parts tr:first-child [data-slot=since]").await;
    picture(browser, &admin, "sink-down", DESKTOP, "Not ready: sink nats", false).await;
    picture(browser, &admin, "sink-down-phone", PHONE, "Not ready: sink nats", false).await;
    nats.restart();
    admin.ready().await;
    browser.shows("#word", "Ready").await;
    browser
        .until(r"/, (\d(\.\d)?|\d+ m) ?s behind/.test(document.getElementById('summary').innerText)")
        .await;

    // They all get the time of the first, so the bridge is behind until it has read them.
    generate(&simulator, Some(2_000_000), Rate::FlatOut { ahead: u64::MAX }, 0);
    a_minute(browser, "#summary").await;
    picture(browser, &admin, "behind", dark(DESKTOP), "Ready, but behind", false).await;
    bridge.kill();
}
