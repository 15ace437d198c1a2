//! The processes that are killed.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::now;

/// An exchange ends within 110 s.
const LONGEST: Duration = Duration::from_secs(150);

/// What a process has said: `None` when it has ended.
struct Line {
    number: usize,
    text: Option<String>,
}

/// What the processes have said since they were asked last.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) tokens: usize,
    pub(crate) needs_login: usize,
    pub(crate) failed: Vec<String>,
}

impl Said {
    fn add(&mut self, text: &str) {
        match text.split(' ').next().unwrap_or_default() {
            "token" => self.tokens += 1,
            "needs_login" => self.needs_login += 1,
            "late" => {}
            _ => self.failed.push(text.to_owned()),
        }
    }
}

struct Process {
    number: usize,
    child: Child,
    orders: ChildStdin,
    is_resting: bool,
}

/// They end with this program: their standard input does.
pub(crate) struct Fleet {
    size: usize,
    command: Command,
    processes: Vec<Process>,
    started: usize,
    sender: Sender<Line>,
    lines: Receiver<Line>,
}

impl Fleet {
    pub(crate) fn new(size: usize, mut command: Command) -> Self {
        let (sender, lines) = channel();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Self { size, command, processes: Vec::new(), started: 0, sender, lines }
    }

    /// Puts new ones in the place of those that were killed.
    pub(crate) fn fill(&mut self) {
        while self.processes.len() < self.size {
            self.start();
        }
    }

    fn start(&mut self) {
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", self.command));
        let (number, sender) = (self.started, self.sender.clone());
        self.started += 1;
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for text in output.lines().map_while(Result::ok) {
                let _ = sender.send(Line { number, text: Some(text) });
            }
            let _ = sender.send(Line { number, text: None });
        });
        let orders = child.stdin.take().unwrap();
        self.processes.push(Process { number, child, orders, is_resting: true });
    }

    /// All of them rotate for so long.
    pub(crate) fn go(&mut self, time: Duration) {
        for process in &mut self.processes {
            process.is_resting = false;
            writeln!(process.orders, "go {}", time.as_millis()).unwrap();
        }
    }

    /// Waits until one of them has said something.
    pub(crate) fn first_word(&mut self, said: &mut Said) {
        loop {
            let Line { number, text } = self.lines.recv_timeout(LONGEST).expect("nobody says anything");
            // Those who were killed before say that they have ended.
            if self.processes.iter().any(|process| process.number == number) {
                return said.add(&text.expect("a process has ended"));
            }
        }
    }

    /// kill -9, as many as that.
    pub(crate) fn kill(&mut self, victims: usize) {
        for _ in 0..victims.min(self.processes.len()) {
            let mut victim = self.processes.swap_remove(fastrand::usize(..self.processes.len()));
            victim.child.kill().unwrap();
            victim.child.wait().unwrap();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// Waits until all who live rest.
    pub(crate) fn rest(&mut self, said: &mut Said) {
        let end = now() + LONGEST;
        while self.processes.iter().any(|process| !process.is_resting) {
            let left = end.checked_sub(now()).expect("a process hangs");
            let Line { number, text } = self.lines.recv_timeout(left).expect("a process hangs");
            let process = self.processes.iter_mut().find(|process| process.number == number);
            match (text.as_deref(), process) {
                (Some("rest"), Some(process)) => process.is_resting = true,
                (Some("rest") | None, None) => {}
                (Some(text), _) => said.add(text),
                (None, Some(_)) => panic!("a process has ended: {:?}", said.failed.last()),
            }
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let all = self.processes.len();
        self.kill(all);
    }
}
