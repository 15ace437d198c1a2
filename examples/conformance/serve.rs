//! The servers of one scenario, for a client that is used by hand.

use std::io;

use tokenflight::testing::hostile::{Hostile, Scenario, Step};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};

/// Goes on with Enter, and ends with the end of standard input or Ctrl-C.
pub(crate) async fn serve(scenario: &Scenario) -> io::Result<()> {
    let servers = Hostile::start(scenario).await?;
    println!("{} ({}, {})\n{}", scenario.name(), scenario.rank(), scenario.by(), scenario.tried());
    println!("{}", serde_json::to_string_pretty(&servers.configure())?);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    tokio::select! {
        ended = steps(scenario, &servers, &mut lines) => ended?,
        pressed = tokio::signal::ctrl_c() => pressed?,
    }
    for (count, number) in servers.seen() {
        println!("{count}: {number}");
    }
    match servers.faults() {
        faults if faults.is_empty() => println!("pass, as far as the servers can tell"),
        faults => println!("FAIL\n{}", faults.join("\n")),
    }
    Ok(())
}

async fn steps(
    scenario: &Scenario,
    servers: &Hostile,
    lines: &mut Lines<BufReader<Stdin>>,
) -> io::Result<()> {
    let api = servers.configure().api;
    for step in scenario.steps() {
        servers.act(step);
        match step {
            Step::Call(call) => {
                let query = call.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
                println!("Send {} times: {} {api}/orders/NUMBER{query}", call.times, call.method);
                println!("each with a number of its own; expected: {:?}. Then press Enter.", call.told);
                if lines.next_line().await?.is_none() {
                    return Ok(());
                }
            }
            Step::Pause(time) => {
                println!("Wait for {time:?}.");
                tokio::time::sleep(*time).await;
            }
            other => println!("Now: {other:?}"),
        }
    }
    Ok(())
}
