//! The floors of the house: a file imports only from lower floors, or what its line here names.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each file with its floor, and the files of its own floor or the next that it may import all the same.
/// `oauth/`, `queue/`, `source/`, `testing/` and `transport/` stand for all the files in them.
const HOUSE: &[(&str, u8, &[&str])] = &[
    ("clock", 0, &[]),
    ("error", 0, &["error/"]),
    ("backoff", 0, &[]),
    ("duration", 0, &[]),
    ("queue", 0, &["queue/"]),
    ("queue/", 0, &["queue", "queue/"]),
    ("error/", 0, &["error", "error/"]),
    ("host", 0, &[]),
    ("panics", 0, &[]),
    ("sync", 0, &[]),
    ("redactor", 0, &["redactor/"]),
    ("redactor/", 0, &[]),
    ("secret", 0, &["secret/"]),
    ("secret/", 0, &["error", "secret", "secret/"]),
    ("settings", 0, &["secret", "secret/", "settings/"]),
    ("settings/", 0, &["secret", "settings"]),
    ("still", 0, &["clock", "error"]),
    ("json", 0, &["error"]),
    ("jwt", 0, &["json"]),
    ("token", 1, &[]),
    ("token/", 1, &["token"]),
    ("transport", 1, &["transport/"]),
    ("transport/", 1, &["transport"]),
    ("challenge", 1, &["challenge/", "token"]),
    ("challenge/", 1, &["challenge"]),
    ("policy", 2, &["policy/"]),
    ("policy/", 2, &["policy"]),
    ("source/asked", 2, &["source"]),
    ("source/boxed", 2, &["source"]),
    ("source/challenge", 2, &[]),
    ("source/function", 2, &["source"]),
    ("source/given", 2, &["source"]),
    ("source/keyed", 2, &["source"]),
    ("source/link", 2, &["source"]),
    (
        "source",
        2,
        &[
            "source/asked",
            "source/boxed",
            "source/challenge",
            "source/function",
            "source/given",
            "source/keyed",
        ],
    ),
    ("store/key", 2, &[]),
    ("store/slots", 2, &[]),
    ("store", 2, &["store/key", "store/slots"]),
    ("store/", 3, &["store/redis/"]),
    ("store/redis/", 3, &["store/"]),
    ("vault", 2, &["vault/record"]),
    ("vault/error", 2, &[]),
    ("vault/record", 2, &["vault", "vault/error"]),
    ("vault/record/", 2, &["vault", "vault/error", "vault/record"]),
    ("vault/", 3, &["vault/file/", "source/shared/"]),
    ("vault/file/", 3, &["vault/", "vault/file/"]),
    ("flight/event", 3, &[]),
    ("flight/reports", 3, &[]),
    ("flight/rest", 3, &["flight", "flight/reports"]),
    ("flight", 3, &["flight/"]),
    ("flight/", 3, &["flight", "flight/"]),
    ("evidence", 3, &[]),
    ("registry/gate", 3, &["registry/gate/"]),
    ("registry/gate/", 3, &["registry/gate", "registry/gate/"]),
    ("slot", 3, &["slot/"]),
    ("slot/", 3, &["slot"]),
    ("oauth", 3, &["oauth/"]),
    ("oauth/builder/", 3, &["oauth/", "oauth/builder"]),
    ("oauth/dpop/", 3, &["oauth", "oauth/", "oauth/dpop/", "oauth/jws"]),
    ("oauth/jws", 3, &["oauth/jws/"]),
    ("oauth/rotation/", 3, &[]),
    ("oauth/", 3, &["oauth", "oauth/", "oauth/dpop/", "oauth/jws"]),
    ("oauth/jws/", 3, &["oauth/jws", "oauth/jws/"]),
    (
        "source/",
        3,
        &[
            "oauth",
            "oauth/",
            "source/",
            "source/any/",
            "source/exec/",
            "source/github_app/",
            "source/hashicorp_vault/",
            "source/json_endpoint/",
            "source/metadata/",
            "source/refresh_token/",
            "vault",
        ],
    ),
    ("source/refresh_token/", 3, &["oauth", "oauth/", "source/", "source/refresh_token/", "vault", "vault/"]),
    ("source/metadata/", 3, &["source/", "source/json_endpoint/", "source/metadata/"]),
    ("source/metadata/aws/", 3, &["source/", "source/metadata/", "source/metadata/aws/"]),
    (
        "source/any/",
        3,
        &["oauth", "oauth/", "source/", "source/any/", "source/shared/", "store/", "vault", "vault/"],
    ),
    ("source/hashicorp_vault/", 3, &["source/", "source/hashicorp_vault/"]),
    ("source/github_app/", 3, &["oauth", "oauth/", "source/", "source/github_app", "source/json_endpoint/"]),
    ("source/exec/", 3, &["source/", "source/exec/"]),
    ("source/json_endpoint/", 3, &["oauth", "oauth/", "source/"]),
    ("source/shared", 3, &["source/shared/"]),
    ("source/shared/", 3, &["source/shared", "source/shared/"]),
    ("testing", 3, &[]),
    ("testing/handles", 6, &[]),
    ("testing/", 3, &["testing/"]),
    ("testing/fakes/", 3, &["oauth/jws/", "source/metadata/aws/", "testing/", "testing/fakes"]),
    (
        "testing/hostile/",
        3,
        &["oauth", "oauth/jws", "oauth/jws/", "testing/", "testing/hostile", "testing/hostile/"],
    ),
    ("lobby", 4, &[]),
    ("actor/parked", 4, &[]),
    ("actor/ticket", 4, &["actor/parked", "lobby"]),
    ("actor/message", 4, &["actor/ticket", "lobby"]),
    ("actor/breath", 5, &[]),
    ("actor/observe", 5, &["actor/observe/"]),
    ("actor/observe/", 5, &["actor/observe/"]),
    ("actor/delivery", 5, &[]),
    ("actor/look", 5, &["actor"]),
    ("actor/shell", 5, &[]),
    ("actor/alarm", 5, &["actor"]),
    ("actor/call", 5, &["actor"]),
    ("actor/inbox", 5, &["actor", "actor/message", "actor/parked", "actor/ticket"]),
    (
        "actor",
        5,
        &[
            "actor/observe",
            "actor/delivery",
            "actor/look",
            "actor/alarm",
            "actor/breath",
            "actor/call",
            "actor/shell",
        ],
    ),
    ("handle", 5, &["actor"]),
    ("builder", 6, &[]),
    ("middleware", 6, &["middleware/"]),
    ("middleware/", 6, &["middleware", "middleware/", "middleware/awc/", "middleware/tower/", "registry"]),
    ("middleware/awc/", 6, &["middleware", "middleware/"]),
    ("middleware/reqwest/", 6, &["middleware", "middleware/"]),
    ("middleware/tower/", 6, &["middleware", "middleware/", "middleware/tower/"]),
    ("registry/fleet", 6, &["registry/", "registry/fleet/"]),
    ("registry/fleet/", 6, &["registry", "registry/", "registry/fleet"]),
    ("registry", 6, &["registry/", "registry/fleet", "registry/shard"]),
    (
        "registry/",
        6,
        &["builder", "registry", "registry/", "registry/fleet", "registry/observe/", "registry/shard"],
    ),
    ("registry/observe/", 6, &["registry", "registry/"]),
    ("registry/shard", 6, &["registry/", "registry/fleet", "registry/shard/"]),
    ("registry/shard/", 6, &["registry/", "registry/shard", "registry/shard/"]),
    ("fuzzing", 6, &["fuzzing/"]),
    ("fuzzing/", 6, &["fuzzing", "middleware"]),
    ("guide", 7, &["guide/"]),
    ("guide/", 7, &["guide"]),
    ("lib", 7, &[]),
];

const MAY_NAME_ACTIX: &[&str] = &[
    "actor",
    "actor/",
    "handle",
    "builder",
    "middleware/awc",
    "registry",
    "registry/",
    "registry/shard",
    "registry/shard/",
];

#[test]
fn every_file_imports_only_lower_floors() {
    let floors: BTreeMap<&str, (u8, &[&str])> =
        HOUSE.iter().map(|(file, floor, named)| (*file, (*floor, *named))).collect();
    let mut faults = Vec::new();
    for (file, text) in files() {
        let Some(line) = line_of(&file, &floors) else {
            faults.push(format!("{file} has no line in the house"));
            continue;
        };
        for import in imports(&file, &text) {
            let Some(target) = resolve(&import, &floors) else { continue };
            let allowed =
                floors[target].0 < floors[line].0 || floors[line].1.contains(&target) || target == line;
            if !allowed {
                faults.push(format!("{file} imports {import}, on floor {}", floors[target].0));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn only_the_shell_names_actix() {
    for (file, text) in files() {
        let folder = file.rsplit_once('/').map(|(folder, _)| format!("{folder}/"));
        let may = MAY_NAME_ACTIX.iter().any(|name| *name == file || Some((*name).to_owned()) == folder);
        let names = code(&text).any(|line| line.contains("actix::") || line.contains("actix_rt::"));
        assert!(may || !names, "{file} names actix");
    }
}

#[test]
fn no_file_outgrows_a_mind() {
    for (file, text) in files() {
        let lines = text.lines().count();
        assert!(lines <= 400, "{file} has {lines} lines: split it along a seam that has a name");
    }
}

/// Modules are places, and do not count. What is rarely written down has a place in one of them.
#[test]
fn at_most_25_names_stand_at_the_root() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let root = fs::read_to_string(root).unwrap();
    let mut names = Vec::new();
    for uses in root.split("pub use ").skip(1) {
        let uses = uses.split(';').next().unwrap();
        let last = uses.rsplit_once("::").map_or(uses, |(_, last)| last);
        names.extend(last.trim_matches(['{', '}', '\n', ' ']).split(',').map(str::trim));
    }
    names.retain(|name| !name.is_empty());
    assert!(names.contains(&"TokenActor") && names.contains(&"TokenType"), "{names:?}");
    assert!(names.len() <= 25, "{} names: {names:?}", names.len());
}

#[test]
fn every_line_of_the_house_stands_for_a_file() {
    let files: Vec<String> = files().map(|(file, _)| file).collect();
    for (name, ..) in HOUSE {
        let stands = files.iter().any(|file| file == name || (name.ends_with('/') && file.starts_with(name)));
        assert!(stands || *name == "guide", "{name} is gone");
    }
}

/// Whether it is a test module: a guest, not a resident.
fn is_guest(path: &Path) -> bool {
    path.ends_with("tests.rs")
        || path.ends_with("flight/model.rs")
        || path.ends_with("rotation/model.rs")
        || path.ends_with("gate/model.rs")
        || path.parent().is_some_and(|folder| {
            folder.ends_with("flight/model") || folder.ends_with("gate/model") || folder.ends_with("tests")
        })
}

/// Each source file by its name below `src/`, without `.rs`.
pub(super) fn files() -> impl Iterator<Item = (String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    let is_code = |path: &PathBuf| path.extension() == Some("rs".as_ref());
    found.into_iter().filter(is_code).filter(|path| !is_guest(path)).map(move |path| {
        let name = path.strip_prefix(&root).unwrap().with_extension("");
        (name.to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap())
    })
}

fn line_of<'a>(file: &str, floors: &BTreeMap<&'a str, (u8, &[&str])>) -> Option<&'a str> {
    let folder = file.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
    floors
        .keys()
        .copied()
        .find(|line| *line == file)
        .or_else(|| floors.keys().copied().find(|line| *line == folder))
}

/// Code without comments, `mod` and re-exports, and without the tests at its end.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).take_while(|line| *line != "mod tests {").filter(|line| {
        !["//", "mod ", "pub mod ", "pub use ", "pub(crate) use ", "pub(crate) mod "]
            .iter()
            .any(|start| line.starts_with(start))
    })
}

/// What stands behind `crate::` and `super::`, as a path below `src/`.
fn imports(file: &str, text: &str) -> Vec<String> {
    let parent = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut found = Vec::new();
    for line in code(text) {
        for (marker, base) in [("crate::", ""), ("super::", parent)] {
            for (at, _) in line.match_indices(marker) {
                let rest = &line[at + marker.len()..];
                if rest.starts_with('{') {
                    assert!(!base.is_empty(), "{file}: one `use` a module, so that this test can read it");
                    found.push(base.to_owned());
                    continue;
                }
                let path =
                    rest.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).next().unwrap();
                let path = path.trim_end_matches(':').replace("::", "/");
                found.push(if base.is_empty() { path } else { format!("{base}/{path}") });
            }
        }
    }
    found
}

/// The longest line of the house that the path begins with.
fn resolve<'a>(import: &str, floors: &BTreeMap<&'a str, (u8, &[&str])>) -> Option<&'a str> {
    let mut path = import;
    loop {
        if let Some(line) = floors.keys().copied().find(|line| *line == path) {
            return Some(line);
        }
        let (folder, _) = path.rsplit_once('/')?;
        let inside = format!("{folder}/");
        let is_file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(format!("{path}.rs")).exists();
        if is_file && let Some(line) = floors.keys().copied().find(|line| *line == inside) {
            return Some(line);
        }
        path = folder;
    }
}
