//! Splits Rust source into tokens with their lines: enough to see which names a file uses. It does not parse.
//!
//! Comments and the contents of literals are dropped, so that a comment about pingora is not a use of pingora.

/// One token of the code: an identifier, a number, or one punctuation character (`::` and `=>` are kept whole).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its text; `""` for every string, byte or character literal.
    pub text: String,
    /// The line where it starts, counted from 1.
    pub line: usize,
}

/// The tokens of `source`, without items behind `#[cfg(test)]`.
pub fn product_tokens(source: &str) -> Vec<Token> {
    let tokens = tokenize(source);
    if is_at(&tokens, 0, &["#", "!", "[", "cfg", "(", "test", ")", "]"]) {
        return Vec::new();
    }
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_at(&tokens, at, CFG_TEST) {
            at = end_of_item(&tokens, at);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// The files of the modules that `source` declares behind `#[cfg(test)]`: the value of `#[path]` if given, else
/// `name.rs`.
pub fn test_modules(source: &str) -> Vec<String> {
    let tokens = tokenize(source);
    let paths = path_attributes(source);
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        if !is_at(&tokens, at, CFG_TEST) {
            continue;
        }
        let end = end_of_item(&tokens, at);
        let item = &tokens[at..end];
        let Some(name) = item.iter().position(|t| t.text == "mod").and_then(|m| item.get(m + 1)) else {
            continue;
        };
        if item.last().is_some_and(|t| t.text == ";") {
            let lines = item[0].line..=name.line;
            let given = paths.iter().find(|(line, _)| lines.contains(line));
            found.push(given.map_or_else(|| format!("{}.rs", name.text), |(_, path)| path.clone()));
        }
    }
    found
}

pub fn tokenize(source: &str) -> Vec<Token> {
    let mut reader = Tokenizer { rest: source.chars().collect(), position: 0, line: 1 };
    let mut tokens = Vec::new();
    while let Some(c) = reader.peek(0) {
        let line = reader.line;
        if let Some(text) = reader.token(c) {
            tokens.push(Token { text, line });
        }
    }
    tokens
}

/// Whether the tokens from index `at` on are exactly `texts`.
pub fn is_at(tokens: &[Token], at: usize, texts: &[&str]) -> bool {
    tokens.len() >= at + texts.len()
        && texts.iter().zip(&tokens[at..]).all(|(want, token)| token.text == *want)
}

/// Whether the token is a name (or a keyword).
pub fn is_name(token: &Token) -> bool {
    token.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The index after the item whose attributes start at index `at`.
fn end_of_item(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && token.text == "}" {
                    return index + 1;
                }
            }
            ";" | "," if depth == 0 => return index + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// The values of `#[path = ".."]` with their lines.
fn path_attributes(source: &str) -> Vec<(usize, String)> {
    let value = |line: &str| Some(line.split_once("#[path")?.1.split('"').nth(1)?.to_owned());
    source.lines().enumerate().filter_map(|(index, line)| Some((index + 1, value(line)?))).collect()
}

const CFG_TEST: &[&str] = &["#", "[", "cfg", "(", "test", ")", "]"];

struct Tokenizer {
    rest: Vec<char>,
    position: usize,
    line: usize,
}

impl Tokenizer {
    fn peek(&self, offset: usize) -> Option<char> {
        self.rest.get(self.position + offset).copied()
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            if self.peek(0) == Some('\n') {
                self.line += 1;
            }
            self.position += 1;
        }
    }

    /// Reads one token; `None` for white space or a comment.
    fn token(&mut self, first: char) -> Option<String> {
        let second = self.peek(1);
        if first == '/' && second == Some('/') {
            while self.peek(0).is_some_and(|c| c != '\n') {
                self.skip(1);
            }
            return None;
        }
        if first == '/' && second == Some('*') {
            self.block_comment();
            return None;
        }
        if first == '"' {
            self.skip(1);
            return Some(self.quoted());
        }
        if first == '\'' {
            return Some(self.character_or_lifetime());
        }
        if first.is_alphanumeric() || first == '_' {
            return Some(self.name_or_prefixed_literal());
        }
        if (first, second) == (':', Some(':')) || (first, second) == ('=', Some('>')) {
            self.skip(2);
            return Some(format!("{first}{}", second.unwrap_or_default()));
        }
        self.skip(1);
        (!first.is_whitespace()).then(|| first.to_string())
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while let Some(c) = self.peek(0) {
            match (c, self.peek(1)) {
                ('/', Some('*')) => depth += 1,
                ('*', Some('/')) => depth -= 1,
                _ => {
                    self.skip(1);
                    continue;
                }
            }
            self.skip(2);
            if depth == 0 {
                return;
            }
        }
    }

    /// Skips to the end of a literal, from after its opening quote.
    fn quoted(&mut self) -> String {
        while let Some(c) = self.peek(0) {
            self.skip(if c == '\\' { 2 } else { 1 });
            if c == '"' {
                break;
            }
        }
        "\"\"".to_owned()
    }

    /// Skips to the end of a raw literal, from the first `#` or the quote.
    fn raw_quoted(&mut self) -> String {
        let mut hashes = 0;
        while self.peek(0) == Some('#') {
            hashes += 1;
            self.skip(1);
        }
        self.skip(1);
        while let Some(c) = self.peek(0) {
            self.skip(1);
            if c == '"' && (0..hashes).all(|offset| self.peek(offset) == Some('#')) {
                self.skip(hashes);
                break;
            }
        }
        "\"\"".to_owned()
    }

    fn character_or_lifetime(&mut self) -> String {
        let escaped = self.peek(1) == Some('\\');
        if !escaped && self.peek(2) != Some('\'') {
            self.skip(1); // a lifetime: its name is the next token
            return "'".to_owned();
        }
        self.skip(if escaped { 3 } else { 2 });
        while self.peek(0).is_some_and(|c| c != '\'') {
            self.skip(1);
        }
        self.skip(1);
        "\"\"".to_owned()
    }

    fn name_or_prefixed_literal(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.peek(0).filter(|c| c.is_alphanumeric() || *c == '_') {
            name.push(c);
            self.skip(1);
        }
        match (name.as_str(), self.peek(0), self.peek(1)) {
            ("r" | "br" | "cr", Some('"'), _) | ("r" | "br" | "cr", Some('#'), Some('"' | '#')) => {
                self.raw_quoted()
            }
            ("b" | "c", Some('"'), _) => {
                self.skip(1);
                self.quoted()
            }
            ("b", Some('\''), _) => self.character_or_lifetime(),
            _ => name,
        }
    }
}

#[test]
fn tokenizer_skips_comments_and_literals_and_keeps_line_numbers() {
    let source = "// a::b\nlet x = \"c::d \\\" e\"; /* f /* g */\n h */ let y = r#\"i \" j\"#;\nfn k<'l>(c: char) { c == '\\'' || c == '\"' }";
    let names: Vec<_> = tokenize(source).into_iter().filter(is_name).map(|t| (t.text, t.line)).collect();
    let expected =
        [("let", 2), ("x", 2), ("let", 3), ("y", 3), ("fn", 4), ("k", 4), ("l", 4), ("c", 4), ("char", 4)];
    assert_eq!(names[..9].iter().map(|(t, l)| (t.as_str(), *l)).collect::<Vec<_>>(), expected);
    assert_eq!(names.len(), 11, "{names:?}");
}

#[test]
fn product_tokens_exclude_test_only_items_and_nothing_else() {
    let source = "fn a() {}\n#[cfg(test)]\n#[allow(dead_code)]\nmod tests { fn b() { if c {} } }\nfn d() {}\n#[cfg(test)]\nuse e::f;\nfn g() {}";
    let names: Vec<_> = product_tokens(source).into_iter().filter(is_name).map(|t| t.text).collect();
    assert_eq!(names, ["fn", "a", "fn", "d", "fn", "g"]);
    assert!(product_tokens("#![cfg(test)]\nfn a() {}").is_empty());
}

#[test]
fn test_module_file_is_found_by_path_attribute_or_name() {
    let source =
        "#[cfg(test)]\n#[path = \"router_tests.rs\"]\nmod tests;\n#[cfg(test)]\nmod samples;\nmod product;";
    assert_eq!(test_modules(source), ["router_tests.rs", "samples.rs"]);
}
