//! Each rule, by name.

mod clients;
mod closing;
mod figures;
mod histories;
mod order;
mod shell;

use std::time::Duration;

use super::*;
use shell::{FAILED, Shell, Told, ask, failed, ms, secs};
