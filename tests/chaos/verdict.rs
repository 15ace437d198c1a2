//! Checks the records.

use std::time::Duration;

use crate::tally::{PATIENCE, Tally};

/// A good token is withheld for a report for so long at most.
const WITHHELD_AT_MOST: Duration = Duration::from_secs(1);

/// What a caller may wait beyond what was agreed, on a machine that is never late itself.
const SLACK: Duration = Duration::from_millis(250);

/// Prints the books. Returns whether they balance.
pub(crate) fn print(tally: &Tally, served: &[(&'static str, u64)], overlaps: &[String]) -> bool {
    let mut breaches = tally.breaches();
    breaches.extend_from_slice(overlaps);
    print_requests(tally, &mut breaches);
    print_tickets(tally, &mut breaches);
    let beyond = tally.withheld().saturating_sub(WITHHELD_AT_MOST);
    in_time(tally, "a reader who found nothing", beyond, &mut breaches);
    print_counts("errors", &tally.errors());
    print_counts("the auth server", served);
    print_counts("what else there was", &tally.counts());
    println!("\ncalls of one actor's source at once, at most: {}", tally.most_at_once());
    println!("the machine itself was late by at most {:?}", tally.lateness());
    println!("to take in a crowd took at most {:?}", tally.longest_crowd());
    let how_often = |what: &str| breaches.iter().filter(|breach| breach.contains(what)).count();
    println!("tokens handed out that had expired: {}", how_often("had expired"));
    println!("tokens handed out that had been discarded: {}", how_often("was discarded before"));
    println!("a good token was out of sight for at most {:?}", tally.withheld());
    for breach in breaches.iter().take(20) {
        println!("BREACH: {breach}");
    }
    println!("\n{}", if breaches.is_empty() { "the books balance" } else { "the books do not balance" });
    breaches.is_empty()
}

fn print_requests(tally: &Tally, breaches: &mut Vec<String>) {
    let head = ["requests", "sent", "token", "error", "dropped", "unanswered", "longest"];
    row(&head.map(String::from));
    for (way, requests) in tally.requests() {
        let open = requests.sent - requests.token - requests.error - requests.dropped;
        row(&[
            format!("{way:?}"),
            requests.sent.to_string(),
            requests.token.to_string(),
            requests.error.to_string(),
            requests.dropped.to_string(),
            open.to_string(),
            format!("{:.3?}", requests.longest),
        ]);
        if open > 0 {
            breaches.push(format!("{open} of {way:?} were never answered"));
        }
        in_time(tally, &format!("{way:?}"), requests.longest.saturating_sub(PATIENCE), breaches);
    }
}

fn print_tickets(tally: &Tally, breaches: &mut Vec<String>) {
    let tickets = tally.tickets();
    println!();
    let head = ["tickets", "sent", "token", "error", "lost", "doubled", "missing"];
    row(&head.map(String::from));
    let figures =
        [tickets.sent, tickets.token, tickets.error, tickets.lost, tickets.doubled, tickets.missing];
    let mut cells = vec![String::new()];
    cells.extend(figures.iter().map(u64::to_string));
    row(&cells);
    let again = tickets.token + tickets.error + tickets.lost + tickets.missing - tickets.sent;
    println!("{} were subscribed twice, of which {again} had been answered before", tickets.subscribed_twice);
    println!("latest answer after its time: {:.3?}", tickets.latest);
    if tickets.doubled > 0 {
        breaches.push(format!("{} tickets were answered more than once", tickets.doubled));
    }
    if tickets.missing > 0 {
        breaches.push(format!("{} tickets were never answered", tickets.missing));
    }
    in_time(tally, "a ticket", tickets.latest, breaches);
}

fn in_time(tally: &Tally, what: &str, late: Duration, breaches: &mut Vec<String>) {
    // Whoever comes behind a crowd is late by as much as it takes to let it in, and to tell it.
    let allowed = SLACK + tally.lateness() + 2 * tally.longest_crowd();
    if late > allowed {
        breaches.push(format!("{what} was answered {late:?} after its time, with {allowed:?} allowed"));
    }
}

fn print_counts(head: &str, counts: &[(&'static str, u64)]) {
    println!("\n{head}");
    for (what, count) in counts {
        println!("{count:>9}  {what}");
    }
}

fn row(cells: &[String]) {
    let (first, rest) = cells.split_first().expect("a row has a name");
    print!("{first:<14}");
    for cell in rest {
        print!("{cell:>12}");
    }
    println!();
}
