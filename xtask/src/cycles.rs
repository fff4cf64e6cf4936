//! Import cycles between the modules of a crate: knowledge flows one way.
//!
//! Modules are compared with their siblings: `use crate::a::…` in `b` is an edge from `b` to `a`,
//! and so is `super::a` in a sibling of `a`. A module and its own children may use each other.

use std::collections::{BTreeMap, BTreeSet};

/// The cycles in these files of one crate (`path below src`, text), one line each.
pub(crate) fn cycles(files: &[(String, String)]) -> Vec<String> {
    let modules: BTreeSet<Vec<String>> = files.iter().map(|(path, _)| module(path)).collect();
    let aliases: BTreeMap<_, _> =
        files.iter().flat_map(|(path, text)| reexports(path, text)).collect();
    let mut edges: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = BTreeMap::new();
    for (path, text) in files {
        let from = module(path);
        for to in used(&from, text) {
            let to = aliases.get(&to).unwrap_or(&to);
            // The longest module that the path names; what follows is an item in it.
            let Some(n) = (1..=to.len()).rev().find(|&n| modules.contains(&to[..n])) else {
                continue;
            };
            if let Some((from, to)) = siblings(&from, &to[..n]) {
                edges.entry(from).or_default().insert(to);
            }
        }
    }
    let mut found = BTreeSet::new();
    for start in edges.keys() {
        if let Some(mut cycle) = path_back(start, &edges) {
            // The same cycle is found from each of its modules: name it from the first of them.
            let first = (0..cycle.len()).min_by_key(|&i| &cycle[i]).unwrap_or(0);
            cycle.rotate_left(first);
            cycle.push(cycle[0].clone());
            let names: Vec<String> = cycle.iter().map(|module| module.join("::")).collect();
            found.insert(names.join(" -> "));
        }
    }
    found.into_iter().collect()
}

/// `a/b.rs` is the module `[a, b]`; the root of the crate is empty.
fn module(path: &str) -> Vec<String> {
    let parts: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    if matches!(parts[..], ["lib" | "main"]) {
        return Vec::new();
    }
    parts.into_iter().map(str::to_owned).collect()
}

/// What a module offers under a path of its own: `pub use a::X;` in `m` makes `m::X` of `m::a::X`.
fn reexports(path: &str, text: &str) -> Vec<(Vec<String>, Vec<String>)> {
    let base = module(path);
    let mut found = Vec::new();
    for line in statements(text) {
        let Some(path) = line.strip_prefix("pub use ").or(line.strip_prefix("pub(crate) use "))
        else {
            continue;
        };
        for path in expand(path.trim_start_matches("self::")) {
            let alias = base.iter().chain(path.last()).cloned().collect();
            found.push((alias, [base.clone(), path].concat()));
        }
    }
    found
}

/// The paths below `crate` that a module's text names, from imports and from code. Tests, which may
/// use anything, are left out.
fn used(from: &[String], text: &str) -> BTreeSet<Vec<String>> {
    let code = without_tests(text);
    let mut found = BTreeSet::new();
    for line in statements(code) {
        for (prefix, base) in [("crate::", &[][..]), ("super::", parent(from)), ("self::", from)] {
            for (at, _) in line.match_indices(prefix) {
                let before = line[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                    continue;
                }
                for path in expand(&line[at + prefix.len()..]) {
                    found.insert(base.iter().cloned().chain(path).collect());
                }
            }
        }
    }
    found
}

/// The text before its module of tests.
fn without_tests(text: &str) -> &str {
    let is_module = |after: &str| {
        let line = after.lines().skip(1).find(|line| !line.starts_with("#["));
        line.is_some_and(|line| line.starts_with("mod "))
    };
    let tests = text.match_indices("#[cfg(test)]").find(|(at, _)| is_module(&text[*at..]));
    tests.map_or(text, |(at, _)| &text[..at])
}

fn parent(module: &[String]) -> &[String] {
    module.split_last().map_or(&[], |(_, parent)| parent)
}

/// Lines without comments; an import that spans lines is one.
fn statements(code: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut open = false;
    for line in code.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        match all.last_mut().filter(|_| open) {
            Some(last) => last.push_str(line),
            None => all.push(line.to_owned()),
        }
        let import = open || line.starts_with("use ") || line.contains(" use ");
        open = import && !line.ends_with(';');
    }
    all
}

/// `a::{b, c::d}` is `a::b` and `a::c::d`.
fn expand(text: &str) -> Vec<Vec<String>> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let rest = &text[name.len()..];
    if let Some(group) = text.strip_prefix('{') {
        return parts(group).into_iter().flat_map(expand).collect();
    }
    let after = rest.strip_prefix("::").map(expand).unwrap_or_default();
    if name.is_empty() {
        return Vec::new();
    }
    if after.is_empty() {
        return vec![vec![name]];
    }
    after.into_iter().map(|path| [vec![name.clone()], path].concat()).collect()
}

/// The parts of a group, up to its closing brace.
fn parts(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.push(group[start..at].trim());
                return found;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(group[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// The two siblings that an import connects: `a::x` that uses `b::y` connects `a` with `b`. Nothing
/// where one is the other's parent.
fn siblings(from: &[String], to: &[String]) -> Option<(Vec<String>, Vec<String>)> {
    let same = from.iter().zip(to).take_while(|(a, b)| a == b).count();
    let differ = same < from.len() && same < to.len();
    differ.then(|| (from[..=same].to_vec(), to[..=same].to_vec()))
}

/// A shortest way from a module back to itself.
fn path_back(
    start: &Vec<String>,
    edges: &BTreeMap<Vec<String>, BTreeSet<Vec<String>>>,
) -> Option<Vec<Vec<String>>> {
    let mut ways = vec![vec![start.clone()]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in edges.get(way.last()?).into_iter().flatten() {
                if next == start {
                    return Some(way);
                }
                if seen.insert(next.clone()) {
                    longer.push([way.clone(), vec![next.clone()]].concat());
                }
            }
        }
        ways = longer;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let owned: Vec<(String, String)> =
            files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        cycles(&owned)
    }

    #[test]
    fn a_cycle_is_named_and_a_line_is_none() {
        let line = [("a.rs", "use crate::b::x;"), ("b.rs", "use crate::c;"), ("c.rs", "")];
        assert!(found(&line).is_empty());
        let circle = [
            ("a.rs", "use crate::{\n    b::x,\n    c,\n};"),
            ("b.rs", "fn f() { crate::c::g() }"),
            ("c.rs", "use super::a::y;"),
        ];
        assert_eq!(found(&circle), ["a -> b -> c -> a", "a -> c -> a"]);
    }

    #[test]
    fn parents_and_children_and_tests_may_use_each_other() {
        let family = [("a.rs", "use self::b::x;"), ("a/b.rs", "use super::y;\nuse crate::a::z;")];
        assert!(found(&family).is_empty());
        let tests = "#[cfg(test)]\n#[allow(x)]\nmod tests { use crate::a; }";
        assert!(found(&[("a.rs", "use crate::b;"), ("b.rs", tests)]).is_empty());
    }

    #[test]
    fn a_reexport_hides_nothing() {
        let root = ("lib.rs", "mod a;\nmod b;\npub use a::{Item, other};\n");
        let files = [root, ("a.rs", "use crate::b::x;"), ("b.rs", "use crate::{Item, y};")];
        assert_eq!(found(&files), ["a -> b -> a"]);
    }

    #[test]
    fn children_connect_their_parents() {
        let files = [("a/x.rs", "use crate::b::y::Y;"), ("b/y.rs", "use crate::a::x::X;")];
        let files = [&files[..], &[("a.rs", ""), ("b.rs", "")]].concat();
        assert_eq!(found(&files), ["a -> b -> a"]);
    }
}
