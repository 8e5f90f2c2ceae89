//! Runs every command of the guide for operators, beside a bridge that works.

use atdata_bridge::simulator::{Generation, GeneratorConfig, Rate, Simulator, SimulatorConfig};
use kit::admin::Admin;
use kit::bridge::Setup;
use kit::ports::free_port;
use kit::scenario::drain;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_the_guide_works() {
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/symptoms.md")).unwrap();
    let blocks = guide.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let commands: Vec<&str> = blocks.flat_map(str::lines).collect();
    assert!(commands.len() > 10, "{commands:?}");

    let simulator = Simulator::start(SimulatorConfig::default()).await.unwrap();
    let setup = Setup::at(&simulator.url(), "acme", "main", "acme-main-1")
        .set("ADMIN__LISTEN", format!("127.0.0.1:{}", free_port()));
    let bridge = setup.start();
    let admin = Admin::of(&bridge).await;
    admin.ready().await;
    let generator = GeneratorConfig { odd_every: 20, ..GeneratorConfig::default() };
    let rate = Rate::FlatOut { ahead: 100_000 };
    simulator.generate("acme", Generation { events: Some(200), rate, generator });
    admin
        .metrics_until("all are acknowledged", |metrics| {
            metrics.sum("atdata_bridge_events_acked_total") == 200.0
        })
        .await;

    for command in commands {
        let arguments: Vec<&str> = command.split_whitespace().skip(1).collect();
        // `--watch` never ends by itself; its test is with `status`.
        let arguments: Vec<&str> = arguments.into_iter().filter(|argument| *argument != "--watch").collect();
        let (code, out, err) = setup.run(&arguments);
        assert_eq!(code, Some(0), "{command}: {out}{err}");
        assert!(!out.is_empty() || err.contains("no event waits"), "{command} says nothing: {err}");
    }
    drain(bridge).await;
}
