//! The rules about structure: each is a function from a file's path and text to the lines that break it.
//!
//! `architecture.rs` applies them to the tree; `samples.rs` applies them to code that they must report. Do not add an
//! exception for a single line: change the rule or the line.

use std::collections::BTreeSet;

use crate::tokens::{self, Token};

/// A line that breaks a rule, printed as `path:line: what`.
#[derive(Debug, PartialEq, Eq)]
pub struct Offence {
    /// Relative to the repository root.
    pub path: String,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl std::fmt::Display for Offence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Each module with the modules directly below it. A module may import itself and everything below, also indirectly.
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

/// The longest file that is accepted.
pub const MAX_LINES: usize = 600;

/// Rooms of pure functions: no async runtime, no clock, no system access.
const PURE_MODULES: &[&str] = &["contract", "limit", "http"];

/// The exempt folder in a pure module: the client of the shared rate-limit backend.
const IMPURE_FOLDER: &str = "src/limit/redis/";

/// Crates that a pure module may not use.
const RUNTIME_CRATES: &[&str] =
    &["tokio", "tracing", "tracing_subscriber", "prometheus", "socket2", "h2", "async_trait"];

/// Modules of `std` that a pure module may not use.
const SYSTEM_MODULES: &[&str] = &["env", "fs", "io", "os", "process", "thread"];

/// Types of `std::net` that own a socket or resolve names; the address types are plain values.
const SOCKETS: &[&str] = &["TcpStream", "TcpListener", "UdpSocket", "UnixStream", "ToSocketAddrs"];

/// Enums of other crates, where a catch-all arm is accepted.
const EXTERNAL_ENUMS: &[&str] = &["Value", "Method", "Ordering", "IpAddr"];

/// Methods of pingora's server sessions that write to a client. Nothing calls them: the codec is in
/// `src/proxy/downstream`.
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

/// Methods that write to a client: those of `src/proxy/downstream` and those of the h2 crate.
const CLIENT_WRITES: &[&str] = &[
    "queue_interim",
    "queue_response_head",
    "queue_response_body",
    "queue_response_trailers",
    "queue_response_end",
    "send_data",
    "send_response",
    "send_informational",
    "send_trailers",
    "send_reset",
];

/// The method that forwards bytes uninspected in a tunnel, and the only file that may call it, after a 101 response.
const TUNNEL_WRITER: (&str, &str) = ("move_input_to", "src/proxy/tunnel.rs");

/// The files that send responses: local replies, and responses of upstreams.
const WRITERS_TO_CLIENTS: &[&str] = &["src/proxy/local_reply.rs", "src/proxy/relay.rs"];

/// The HTTP/1 and HTTP/2 codecs, which implement these methods by calling each other. The last file uses the h2 crate's
/// methods to send requests to upstreams.
const CODECS: &[&str] = &[
    "src/proxy/downstream/mod.rs",
    "src/proxy/downstream/h1.rs",
    "src/proxy/downstream/h2.rs",
    "src/proxy/upstream_conn/h2.rs",
];

/// Where pingora may be used: modules and single files.
const PINGORA_USERS: &[&str] =
    &["src/proxy/", "src/server/", "src/upstream/transport.rs", "src/upstream/timer.rs", "src/tls/stream.rs"];

/// The conformance suite writes to its own sockets, never to a client of the gateway.
const CONFORMANCE_FOLDER: &str = "src/conformance/";

/// Every path that a rule names.
pub fn named_paths() -> impl Iterator<Item = &'static str> {
    let lists = [WRITERS_TO_CLIENTS, CODECS, PINGORA_USERS].into_iter().flatten().copied();
    lists.chain([IMPURE_FOLDER, TUNNEL_WRITER.1, CONFORMANCE_FOLDER])
}

/// Every file opens with a module header.
pub fn module_header(path: &str, text: &str) -> Vec<Offence> {
    if text.starts_with("//!") {
        return Vec::new();
    }
    vec![offence(
        path,
        1,
        "the file does not open with `//!`; say what it does and what to know before changing it",
    )]
}

/// No file is longer than [`MAX_LINES`].
pub fn file_length(path: &str, text: &str) -> Vec<Offence> {
    let lines = text.lines().count();
    if lines <= MAX_LINES {
        return Vec::new();
    }
    vec![offence(
        path,
        MAX_LINES + 1,
        format!("{lines} lines; {MAX_LINES} is the limit: split the file by subject"),
    )]
}

/// No file or module has a generic name, because unrelated code collects under it.
pub fn generic_name(path: &str, text: &str) -> Vec<Offence> {
    let is_generic = |name: &str| {
        let mut words = name.split(['_', '-']);
        words.any(|word| {
            ["util", "utils", "helper", "helpers", "manager", "managers", "common", "misc"].contains(&word)
        })
    };
    let mut offences = Vec::new();
    if path.trim_end_matches(".rs").split('/').any(is_generic) {
        offences.push(offence(path, 1, "generic file name; name what the file contains"));
    }
    for pair in tokens::tokenize(text).windows(2) {
        if pair[0].text == "mod" && is_generic(&pair[1].text) {
            let message = format!("generic module name `{}`; name what the module contains", pair[1].text);
            offences.push(offence(path, pair[1].line, message));
        }
    }
    offences
}

/// No markers of unfinished work.
pub fn no_todo_markers(path: &str, text: &str) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        for marker in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")] {
            if words.contains(&marker) {
                let message = format!("`{marker}` is easily overlooked; do it now, or file an issue");
                offences.push(offence(path, index + 1, message));
            }
        }
    }
    for pair in tokens::tokenize(text).windows(2) {
        if ["todo", "unimplemented"].contains(&pair[0].text.as_str()) && pair[1].text == "!" {
            offences.push(offence(path, pair[0].line, format!("`{}!` panics at run time", pair[0].text)));
        }
    }
    offences
}

/// A module imports only modules below it in [`ALLOWED_IMPORTS`].
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
            format!("`{own_module}` has no row in ALLOWED_IMPORTS; see ARCHITECTURE.md"),
        )];
    };
    let mut offences = Vec::new();
    for (module_name, line) in imported_modules(path, &code) {
        if module_name == "*" || module_name == "self" {
            offences.push(offence(path, line, "imports the whole crate; name the module"));
        } else if module_name != own_module && !allowed.contains(module_name.as_str()) {
            let below: Vec<_> = allowed.iter().copied().collect();
            let message =
                format!("`{own_module}` may not import `{module_name}`, only: {}", below.join(", "));
            offences.push(offence(path, line, message));
        }
    }
    offences
}

/// Pure modules use no async runtime, clock or system, so that their tests need none.
pub fn pure_modules(path: &str, text: &str) -> Vec<Offence> {
    let Some(module_name) = module_of(path)
        .filter(|module_name| PURE_MODULES.contains(module_name) && !path.starts_with(IMPURE_FOLDER))
    else {
        return Vec::new();
    };
    let code = tokens::product_tokens(text);
    let mut offences = Vec::new();
    let mut report = |line, message: &str| {
        offences.push(offence(path, line, format!("`{module_name}` is pure but uses {message}")))
    };
    for (at, token) in code.iter().enumerate() {
        let clock = ["Instant", "SystemTime"].contains(&token.text.as_str());
        if starts_a_path(&code, at) && RUNTIME_CRATES.contains(&token.text.as_str()) {
            report(token.line, &token.text);
        } else if clock && tokens::is_at(&code, at + 1, &["::", "now"]) {
            report(token.line, &format!("{}::now; pass `now` as a parameter", token.text));
        } else if SOCKETS.contains(&token.text.as_str()) {
            report(token.line, &token.text);
        } else if token.text == "Instant" {
            report(token.line, "Instant; pass a Duration or a Timestamp");
        }
    }
    for (module, line) in first_segments_after(&code, "std") {
        if SYSTEM_MODULES.contains(&module.as_str()) {
            report(line, &format!("std::{module}"));
        }
    }
    offences
}

/// In `contract`, a match over one of our enums names every variant, so that the compiler finds what a new variant
/// affects.
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
                "`_ =>` over one of our enums hides new variants; name the remaining ones",
            ));
        }
    }
    offences
}

/// pingora is used only in the modules and files listed here.
pub fn pingora_imports(path: &str, text: &str) -> Vec<Offence> {
    if PINGORA_USERS.iter().any(|allowed| path.starts_with(allowed)) {
        return Vec::new();
    }
    let code = tokens::product_tokens(text);
    let uses = code.iter().filter(|token| token.text.starts_with("pingora"));
    let message =
        "pingora may be used only in proxy, server, upstream/{transport,timer}.rs and tls/stream.rs";
    uses.map(|t| offence(path, t.line, message)).collect()
}

/// Only the files listed above write to clients: a response from elsewhere would bypass the contract and the metrics.
pub fn client_writes(path: &str, text: &str) -> Vec<Offence> {
    if path.starts_with(CONFORMANCE_FOLDER) {
        return Vec::new();
    }
    let may_write = WRITERS_TO_CLIENTS.contains(&path) || CODECS.contains(&path);
    let forbidden =
        |name: &str| PINGORA_WRITES.contains(&name) || (CLIENT_WRITES.contains(&name) && !may_write);
    let code = tokens::product_tokens(text);
    let mut offences = Vec::new();
    for pair in code.windows(2).filter(|pair| [".", "::"].contains(&pair[0].text.as_str())) {
        let (method, allowed_path) = TUNNEL_WRITER;
        if pair[1].text == method && path != allowed_path {
            let message = format!("`{method}` forwards bytes uninspected; only {allowed_path} may call it");
            offences.push(offence(path, pair[1].line, message));
        }
        if forbidden(&pair[1].text) {
            let message = format!(
                "`{}` writes to a client; only {} may call it",
                pair[1].text,
                WRITERS_TO_CLIENTS.join(" and ")
            );
            offences.push(offence(path, pair[1].line, message));
        }
    }
    offences
}

/// Only `cli` and `main` read the environment and the arguments; they pass the values down.
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

/// Committed files name no path that exists only on a developer's machine.
pub fn machine_paths(path: &str, text: &str) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for pattern in [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tmp/", "dev-")] {
            let starts_path =
                |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
            if line.match_indices(pattern).any(|(at, _)| starts_path(at)) {
                offences.push(offence(path, index + 1, format!("names `{pattern}`, a path of one machine")));
            }
        }
    }
    offences
}

/// The module of a source file: the folder or file directly under `src`.
fn module_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    Some(inside.split('/').next()?.trim_end_matches(".rs"))
}

/// The modules that `module_name` may import, directly or indirectly below it.
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

/// `lib.rs` only declares and re-exports.
fn lib_contains_only_modules(path: &str, code: &[Token]) -> Vec<Offence> {
    let definitions = ["fn", "struct", "enum", "impl", "macro_rules", "static", "const"];
    let found = code.iter().filter(|token| definitions.contains(&token.text.as_str()));
    found
        .map(|t| offence(path, t.line, format!("`{}` in lib.rs, which only declares modules", t.text)))
        .collect()
}

/// Every module that the code names through `crate::`, `statusquo::` or a chain of `super::` that reaches the crate
/// root.
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

/// Whether a path begins at this token.
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
    let mut start = Some(open + 1); // of the current pattern; none inside an arm's body
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
            // No comma is required after a body in braces.
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
