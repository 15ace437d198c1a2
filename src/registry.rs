//! A token for each of many keys, all fetched from one auth server.
// The registry that uses the gate comes next.
#![allow(dead_code, unused_imports)]

mod gate;
