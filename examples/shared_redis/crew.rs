//! The worker processes, from the first process's point of view.

use std::io;
use std::process::Stdio;

use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::options::Options;
use crate::worker::{KEY_VARIABLE, Line, URL_VARIABLE};

pub(crate) struct Crew(Vec<Member>);

struct Member {
    number: u32,
    process: Child,
    orders: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Crew {
    /// Returns when all of them are ready.
    pub(crate) async fn start(options: &Options, redis_url: &str, auth_url: &str) -> io::Result<Self> {
        // Good for one run of an example. In production: `openssl rand -hex 32`.
        let key = format!("{:032x}{:032x}", fastrand::u128(..), fastrand::u128(..));
        let program = std::env::current_exe()?;
        let mut crew = Self(Vec::new());
        for number in 0..options.workers {
            let mut process = Command::new(&program)
                .args(["--as-worker", &number.to_string(), "--auth-url", auth_url])
                .args(["--arbiters", &options.arbiters.to_string()])
                .args(["--lease", &format!("{}ms", options.lease.as_millis())])
                .args((number < options.wrong_secrets).then_some("--old-secret"))
                .env(KEY_VARIABLE, &key)
                .env(URL_VARIABLE, redis_url)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            let (Some(orders), Some(out)) = (process.stdin.take(), process.stdout.take()) else { continue };
            crew.0.push(Member { number, process, orders, lines: BufReader::new(out).lines() });
        }
        crew.answers().await?;
        Ok(crew)
    }

    /// Everybody at once.
    pub(crate) async fn round(&mut self, order: &str) -> io::Result<Vec<Line>> {
        self.tell(order).await?;
        self.answers().await
    }

    pub(crate) async fn tell(&mut self, order: &str) -> io::Result<()> {
        for member in &mut self.0 {
            member.orders.write_all(format!("{order}\n").as_bytes()).await?;
        }
        Ok(())
    }

    /// One line from each of them.
    pub(crate) async fn answers(&mut self) -> io::Result<Vec<Line>> {
        let lines = join_all(self.0.iter_mut().map(|member| member.lines.next_line())).await;
        let gone = || io::Error::other("a worker has ended; RUST_LOG=debug may say why");
        lines.into_iter().map(|line| Ok(serde_json::from_str(&line?.ok_or_else(gone)?)?)).collect()
    }

    /// kill -9.
    pub(crate) async fn kill(&mut self, number: u32) -> io::Result<()> {
        if let Some(at) = self.0.iter().position(|member| member.number == number) {
            self.0.remove(at).process.kill().await?;
        }
        Ok(())
    }

    /// They end when there are no more orders.
    pub(crate) async fn end(self) -> io::Result<()> {
        for Member { mut process, orders, .. } in self.0 {
            drop(orders);
            process.wait().await?;
        }
        Ok(())
    }
}
