//! A redis-server that the example starts, or the given one.

use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) enum Redis {
    Own { port: u16, server: Child },
    Given(String),
}

impl Redis {
    pub(crate) fn begin(given: Option<&str>) -> io::Result<Self> {
        if let Some(url) = given {
            return Ok(Self::Given(url.to_owned()));
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let folder = std::env::temp_dir();
        let mut server = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|_| {
                io::Error::other("there is no redis-server here: install it (Debian: apt-get install redis-server), or give --redis-url")
            })?;
        let mut lines = server.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines());
        let ready = lines.any(|line| line.is_ok_and(|line| line.contains("Ready to accept")));
        if !ready {
            let _ = server.wait();
            return Err(io::Error::other("the redis-server did not start"));
        }
        // What else it says must not block it.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self::Own { port, server })
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Own { port, .. } => format!("redis://127.0.0.1:{port}"),
            Self::Given(url) => url.clone(),
        }
    }

    /// Without the password that a given URL may hold.
    pub(crate) fn described(&self) -> String {
        match self {
            Self::Own { .. } => format!("{}, started for this", self.url()),
            Self::Given(_) => "the one given".to_owned(),
        }
    }

    pub(crate) fn freeze(&self) -> io::Result<()> {
        self.signal("-STOP")
    }

    pub(crate) fn thaw(&self) -> io::Result<()> {
        self.signal("-CONT")
    }

    fn signal(&self, signal: &str) -> io::Result<()> {
        let Self::Own { server, .. } = self else { return Ok(()) };
        Command::new("kill").args([signal, &server.id().to_string()]).status().map(drop)
    }

    /// What somebody does who may write to Redis and has no key: again and again, until this is dropped.
    pub(crate) async fn write_rubbish(&self) -> io::Result<()> {
        let keys = self.keys().await?;
        for number in 0.. {
            for key in &keys {
                let what = match number % 4 {
                    0 => format!("SET {key} rubbish PX 315360000000"),
                    1 => format!("HSET {key} fence 9000000000000000"),
                    2 => format!("DEL {key}"),
                    _ => format!("RPUSH {key} rubbish"),
                };
                self.command(&what).await?;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Each token, as soon as it is there: until this is dropped.
    pub(crate) async fn delete_tokens(&self) -> io::Result<()> {
        loop {
            for key in self.keys().await? {
                if key.ends_with(":token") {
                    self.command(&format!("DEL {key}")).await?;
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn keys(&self) -> io::Result<Vec<String>> {
        let answer = self.command("KEYS tokenflight:*").await?;
        Ok(answer.lines().filter(|line| line.starts_with("tokenflight:")).map(str::to_owned).collect())
    }

    /// A command without arguments that need quoting, and its answer as it comes. Only to one's own server.
    pub(crate) async fn command(&self, command: &str) -> io::Result<String> {
        let Self::Own { port, .. } = self else { return Ok(String::new()) };
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await?;
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Self::Own { server, .. } = self {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}
