//! The rules of the house, each a function from a file's path and text to the lines that break it.
//!
//! A rule knows nothing of where files come from: `architecture.rs` gives it the tree, `rule_tests.rs` gives it bad code to
//! show that it can say no. Exceptions have no place here; a rule that needs one is the wrong rule.

use std::collections::BTreeSet;

use crate::tokens::{self, Token};

/// A line that breaks a rule; printed as `path:line: what`.
#[derive(Debug, PartialEq, Eq)]
pub struct Offence {
    /// From the top of the repository.
    pub path: String,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong and what would be right.
    pub what: String,
}

impl std::fmt::Display for Offence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// The arrows: a room and the rooms right below it. Each may use anything further down, and itself.
pub const ALLOWED_IMPORTS: &[(&str, &[&str])] = &[
    ("cli", &["server", "conformance"]),
    ("server", &["proxy", "admin", "snapshot"]),
    ("proxy", &["snapshot"]),
    ("admin", &["snapshot"]),
    ("snapshot", &["config", "telemetry"]),
    ("config", &["limit", "upstream", "http", "contract"]),
    ("telemetry", &["contract"]),
    ("conformance", &["contract"]),
    ("limit", &["contract"]),
    ("upstream", &["tls", "http"]),
    ("tls", &["contract"]),
    ("http", &["contract"]),
    ("contract", &[]),
];

/// No file is longer.
pub const MAX_LINES: usize = 600;

/// Rooms of pure functions: no runtime, no clock, no system.
const PURE_MODULES: &[&str] = &["contract", "limit", "http"];

/// The folder in a pure room that talks to a server.
const IMPURE_FOLDER: &str = "src/limit/redis/";

/// Crates that a pure room does not name.
const RUNTIME_CRATES: &[&str] =
    &["tokio", "tracing", "tracing_subscriber", "prometheus", "socket2", "h2", "async_trait"];

/// Modules of `std` that a pure room does not name.
const SYSTEM_MODULES: &[&str] = &["env", "fs", "io", "os", "process", "thread"];

/// Types of `std` that hold a socket; the addresses beside them are plain values.
const SOCKETS: &[&str] = &["TcpStream", "TcpListener", "UdpSocket", "UnixStream", "ToSocketAddrs"];

/// Enums of others, which may grow without our asking.
const EXTERNAL_ENUMS: &[&str] = &["Value", "Method", "Ordering", "IpAddr"];

/// Writers of pingora's own server sessions: the codec is ours, nobody calls them.
const PINGORA_WRITES: &[&str] = &[
    "write_response_header",
    "write_response_header_ref",
    "write_continue_response",
    "write_response_body",
    "write_response_trailers",
    "write_error_response",
    "respond_error",
    "respond_error_with_body",
    "send_proxy_task",
    "write_proxy_tasks",
];

/// What writes to a client: our own steps of an answer and those of the h2 crate.
const CLIENT_WRITES: &[&str] = &[
    "send_interim",
    "send_response_head",
    "send_data",
    "send_end",
    "send_response",
    "send_informational",
    "send_trailers",
    "send_reset",
];

/// What moves bytes between the two sides unread: no answer, and allowed only after a 101 has left through the relay.
const TUNNEL_WRITER: (&str, &str) = ("splice_to", "src/proxy/tunnel.rs");

/// The door, and what passes beside it.
const WRITERS_TO_CLIENTS: &[&str] = &["src/proxy/local_reply.rs", "src/proxy/relay.rs"];

/// They spell what the writers say in HTTP/1 and HTTP/2, and call each other for it. The last one writes with the h2
/// crate too: to upstreams.
const PINGORA_USERS: &[&str] = &[
    "src/proxy/downstream/mod.rs",
    "src/proxy/downstream/h1.rs",
    "src/proxy/downstream/h2.rs",
    "src/proxy/upstream_conn/h2.rs",
];

/// A file says at once what it is.
pub fn module_header(path: &str, text: &str) -> Vec<Offence> {
    if text.starts_with("//!") {
        return Vec::new();
    }
    vec![offence(
        path,
        1,
        "the file does not open with `//!`: what it is, what it refuses to know, where to go next",
    )]
}

/// A file past the limit has a second noun in it.
pub fn file_length(path: &str, text: &str) -> Vec<Offence> {
    let lines = text.lines().count();
    if lines <= MAX_LINES {
        return Vec::new();
    }
    vec![offence(
        path,
        MAX_LINES + 1,
        format!("{lines} lines; {MAX_LINES} is the limit: look for the second noun"),
    )]
}

/// A name that says nothing attracts everything.
pub fn generic_name(path: &str, text: &str) -> Vec<Offence> {
    let empty = |name: &str| {
        let mut words = name.split(['_', '-']);
        words.any(|word| {
            ["util", "utils", "helper", "helpers", "manager", "managers", "common", "misc"].contains(&word)
        })
    };
    let mut offences = Vec::new();
    if path.trim_end_matches(".rs").split('/').any(empty) {
        offences.push(offence(path, 1, "a file called util, helper, manager or common; name what it holds"));
    }
    for pair in tokens::tokenize(text).windows(2) {
        if pair[0].text == "mod" && empty(&pair[1].text) {
            let message = format!("a module called `{}`; name what it holds", pair[1].text);
            offences.push(offence(path, pair[1].line, message));
        }
    }
    offences
}

/// Nothing is left for later.
pub fn no_todo_markers(path: &str, text: &str) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        for marker in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")] {
            if words.contains(&marker) {
                let message = format!("`{marker}`: nobody will read it; do it, or file an issue");
                offences.push(offence(path, index + 1, message));
            }
        }
    }
    for pair in tokens::tokenize(text).windows(2) {
        if ["todo", "unimplemented"].contains(&pair[0].text.as_str()) && pair[1].text == "!" {
            offences.push(offence(path, pair[0].line, format!("`{}!` panics on a user", pair[0].text)));
        }
    }
    offences
}

/// Imports point down.
pub fn import_direction(path: &str, text: &str) -> Vec<Offence> {
    let code = tokens::product_tokens(text);
    let Some(own_module) = module_of(path) else { return Vec::new() };
    if own_module == "lib" {
        return lib_contains_only_modules(path, &code);
    }
    if own_module == "main" {
        return Vec::new();
    }
    let Some(allowed) = allowed_imports_of(own_module) else {
        return vec![offence(
            path,
            1,
            format!("`{own_module}` is no room of the house; see ARCHITECTURE.md"),
        )];
    };
    let mut offences = Vec::new();
    for (module_name, line) in imported_modules(path, &code) {
        if module_name == "*" || module_name == "self" {
            offences.push(offence(path, line, "the whole crate is imported; name the room"));
        } else if module_name != own_module && !allowed.contains(module_name.as_str()) {
            let below: Vec<_> = allowed.iter().copied().collect();
            let message = format!(
                "`{own_module}` uses `{module_name}`, against the arrows; below `{own_module}` are: {}",
                below.join(", ")
            );
            offences.push(offence(path, line, message));
        }
    }
    offences
}

/// The contract can be judged without a machine.
pub fn pure_modules(path: &str, text: &str) -> Vec<Offence> {
    let Some(module_name) = module_of(path)
        .filter(|module_name| PURE_MODULES.contains(module_name) && !path.starts_with(IMPURE_FOLDER))
    else {
        return Vec::new();
    };
    let code = tokens::product_tokens(text);
    let mut offences = Vec::new();
    let mut no = |line, message: &str| {
        offences.push(offence(path, line, format!("`{module_name}` is pure, but names {message}")))
    };
    for (at, token) in code.iter().enumerate() {
        let clock = ["Instant", "SystemTime"].contains(&token.text.as_str());
        if starts_a_path(&code, at) && RUNTIME_CRATES.contains(&token.text.as_str()) {
            no(token.line, &token.text);
        } else if clock && tokens::is_at(&code, at + 1, &["::", "now"]) {
            no(token.line, &format!("{}::now; pass `now`", token.text));
        } else if SOCKETS.contains(&token.text.as_str()) {
            no(token.line, &token.text);
        } else if token.text == "Instant" {
            no(token.line, "Instant; pass a Duration or a date");
        }
    }
    for (module, line) in first_segments_after(&code, "std") {
        if SYSTEM_MODULES.contains(&module.as_str()) {
            no(line, &format!("std::{module}"));
        }
    }
    offences
}

/// In the contract the compiler is the to-do list: a match over an enum of ours names every variant.
pub fn no_catch_all(path: &str, text: &str) -> Vec<Offence> {
    if module_of(path) != Some("contract") {
        return Vec::new();
    }
    let code = tokens::product_tokens(text);
    let mut offences = Vec::new();
    for at in (0..code.len()).filter(|at| code[*at].text == "match") {
        let patterns = patterns_of_match(&code, at);
        let is_internal_enum = |pattern: &&[Token]| {
            pattern.windows(2).any(|pair| {
                let name = &pair[0].text;
                pair[1].text == "::"
                    && name.starts_with(char::is_uppercase)
                    && !EXTERNAL_ENUMS.contains(&name.as_str())
            })
        };
        let catch_all = patterns.iter().find(|pattern| pattern.len() == 1 && pattern[0].text == "_");
        if let Some(arm) = catch_all.filter(|_| patterns.iter().any(is_internal_enum)) {
            offences.push(offence(
                path,
                arm[0].line,
                "`_ =>` over an enum of ours hides its next variant; name what is left",
            ));
        }
    }
    offences
}

/// pingora is named where it is at home.
pub fn pingora_imports(path: &str, text: &str) -> Vec<Offence> {
    let at_home = ["src/proxy/", "src/server/"].iter().any(|home| path.starts_with(home));
    if at_home || ["src/upstream/transport.rs", "src/upstream/timer.rs", "src/tls/stream.rs"].contains(&path)
    {
        return Vec::new();
    }
    let code = tokens::product_tokens(text);
    let uses = code.iter().filter(|token| token.text.starts_with("pingora"));
    let message =
        "pingora is named only in exchange, server, upstream/{transport,timer}.rs and tls/stream.rs";
    uses.map(|t| offence(path, t.line, message)).collect()
}

/// One door: who else writes to a client answers without a contract and without a count.
pub fn client_writes(path: &str, text: &str) -> Vec<Offence> {
    // The rehearsal's upstream and client speak on sockets of their own, never to a client of the gateway.
    if path.starts_with("src/conformance/") {
        return Vec::new();
    }
    let may_write = WRITERS_TO_CLIENTS.contains(&path) || PINGORA_USERS.contains(&path);
    let forbidden =
        |name: &str| PINGORA_WRITES.contains(&name) || (CLIENT_WRITES.contains(&name) && !may_write);
    let code = tokens::product_tokens(text);
    let mut offences = Vec::new();
    for pair in code.windows(2).filter(|pair| [".", "::"].contains(&pair[0].text.as_str())) {
        let (moves, pattern) = TUNNEL_WRITER;
        if pair[1].text == moves && path != pattern {
            let message =
                format!("`{moves}` moves bytes to a client unread; only {pattern} may, after a 101");
            offences.push(offence(path, pair[1].line, message));
        }
        if forbidden(&pair[1].text) {
            let message = format!(
                "`{}` writes to a client; only {} may",
                pair[1].text,
                WRITERS_TO_CLIENTS.join(" and ")
            );
            offences.push(offence(path, pair[1].line, message));
        }
    }
    offences
}

/// What the process was told is read at the edge and passed down.
pub fn environment_reads(path: &str, text: &str) -> Vec<Offence> {
    if path.starts_with("src/cli/") || path == "src/main.rs" {
        return Vec::new();
    }
    let code = tokens::product_tokens(text);
    let readers = ["var", "var_os", "vars", "vars_os", "args", "args_os", "current_dir"];
    let read = |at: &usize| {
        tokens::is_at(&code, *at, &["env", "::"])
            && code.get(at + 2).is_some_and(|t| readers.contains(&t.text.as_str()))
    };
    let message = "only cli and main read the environment; pass the value down";
    (0..code.len()).filter(read).map(|at| offence(path, code[at].line, message)).collect()
}

/// What is committed works on another machine and says nothing of this one.
pub fn machine_paths(path: &str, text: &str) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for pattern in [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tmp/", "dev-")] {
            let alone =
                |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
            if line.match_indices(pattern).any(|(at, _)| alone(at)) {
                offences.push(offence(path, index + 1, format!("names `{pattern}`, a place of one machine")));
            }
        }
    }
    offences
}

/// The room of a source file: the folder or file right under `src`.
fn module_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    Some(inside.split('/').next()?.trim_end_matches(".rs"))
}

/// The rooms that `module_name` may use: everything that the arrows lead to.
fn allowed_imports_of(module_name: &str) -> Option<BTreeSet<&'static str>> {
    let direct =
        |module_name: &str| ALLOWED_IMPORTS.iter().find(|(from, _)| *from == module_name).map(|(_, to)| *to);
    let mut open: Vec<&'static str> = direct(module_name)?.to_vec();
    let mut found = BTreeSet::new();
    while let Some(next) = open.pop() {
        if found.insert(next) {
            open.extend(direct(next).unwrap_or_default());
        }
    }
    Some(found)
}

/// `lib.rs` declares and re-exports; it does nothing.
fn lib_contains_only_modules(path: &str, code: &[Token]) -> Vec<Offence> {
    let work = ["fn", "struct", "enum", "impl", "macro_rules", "static", "const"];
    let found = code.iter().filter(|token| work.contains(&token.text.as_str()));
    found
        .map(|t| offence(path, t.line, format!("`{}` in lib.rs, which is a map and holds no code", t.text)))
        .collect()
}

/// Every room that the code names through `crate::`, `statusquo::` or a chain of `super::` that ends at the top.
fn imported_modules(path: &str, code: &[Token]) -> Vec<(String, usize)> {
    let mut found = first_segments_after(code, "crate");
    found.extend(first_segments_after(code, "statusquo"));
    let file_depth = path.trim_end_matches("/mod.rs").matches('/').count();
    let mut braces: Vec<bool> = Vec::new(); // true: opened by `mod name {`
    for (at, token) in code.iter().enumerate() {
        match token.text.as_str() {
            "{" => braces.push(at >= 2 && code[at - 2].text == "mod"),
            "}" => drop(braces.pop()),
            "super" if starts_a_path(code, at) => {
                let mut end = at;
                while tokens::is_at(code, end, &["super", "::"]) {
                    end += 2;
                }
                let climbed = (end - at) / 2;
                if climbed == file_depth + braces.iter().filter(|module| **module).count() {
                    found.extend(segments_at(code, end));
                }
            }
            _ => {}
        }
    }
    found
}

/// `head::x` gives `x`; `head::{x, y::z}` gives `x` and `y`.
fn first_segments_after(code: &[Token], head: &str) -> Vec<(String, usize)> {
    let starts =
        (0..code.len()).filter(|at| tokens::is_at(code, *at, &[head, "::"]) && starts_a_path(code, *at));
    starts.flat_map(|at| segments_at(code, at + 2)).collect()
}

/// Whether a path begins at this token: nothing is left of it that it would belong to.
fn starts_a_path(code: &[Token], at: usize) -> bool {
    let follows = |text: &str| at >= 1 && code[at - 1].text == text;
    let absolute = follows("::") && (at < 2 || !tokens::is_name(&code[at - 2]) && code[at - 2].text != ">");
    (!follows("::") && !follows(".")) || absolute
}

/// The name at `at`, or the first name of each branch of the group at `at`.
fn segments_at(code: &[Token], at: usize) -> Vec<(String, usize)> {
    let Some(first) = code.get(at) else { return Vec::new() };
    if first.text != "{" {
        return vec![(first.text.clone(), first.line)];
    }
    let mut names = Vec::new();
    let mut depth = 0usize;
    for (index, token) in code.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ if depth == 1 && ["{", ","].contains(&code[index - 1].text.as_str()) => {
                names.push((token.text.clone(), token.line));
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// The patterns of the `match` at `at`, without their guards.
fn patterns_of_match(code: &[Token], at: usize) -> Vec<&[Token]> {
    let step = |token: &Token| match token.text.as_str() {
        "{" | "(" | "[" => 1i32,
        "}" | ")" | "]" => -1,
        _ => 0,
    };
    let mut depth = 0;
    let Some(open) = (at + 1..code.len()).find(|i| {
        let found = depth == 0 && code[*i].text == "{";
        depth += step(&code[*i]);
        found
    }) else {
        return Vec::new();
    };
    let mut patterns = Vec::new();
    let mut start = Some(open + 1); // of the pattern being read; none inside an arm's body
    let mut guard = None;
    depth = 1;
    for index in open + 1..code.len() {
        let token = &code[index];
        depth += step(token);
        if depth == 0 {
            break;
        }
        match (token.text.as_str(), start) {
            ("if", Some(_)) if depth == 1 => guard = guard.or(Some(index)),
            ("=>", Some(first)) if depth == 1 => {
                patterns.push(&code[first..guard.unwrap_or(index)]);
                (start, guard) = (None, None);
            }
            (",", None) if depth == 1 => start = Some(index + 1),
            // A body in braces needs no comma after it.
            ("}", None) if depth == 1 && code.get(index + 1).is_some_and(|next| next.text != ",") => {
                let method_follows = [".", "?"].contains(&code[index + 1].text.as_str());
                start = (!method_follows).then_some(index + 1);
            }
            _ => {}
        }
    }
    patterns
}

fn offence(path: &str, line: usize, message: impl Into<String>) -> Offence {
    Offence { path: path.to_owned(), line, what: message.into() }
}
