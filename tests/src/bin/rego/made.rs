//! Modules that nobody wrote: put together by chance of whatever rules may have, so that the two evaluators meet what no corpus has.
//!
//! They are made to mean something: texts are compared with texts, a variable is named before it is used, and what may be nothing (a key
//! that an input needn't have, a lookup, a division) stands in many places, for that is where evaluators differ.

use std::fmt::Write;

/// A row of numbers that is the same every time.
pub(crate) struct Dice(u64);

impl Dice {
    /// The row of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// The next number, below `sides`.
    pub(crate) fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides.max(1) as u64).unwrap_or(0)
    }

    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.throw(texts.len())]
    }
}

/// What can be used at a place: the variables by kind.
#[derive(Clone, Default)]
struct Known {
    numbers: Vec<String>,
    texts: Vec<String>,
    messages: Vec<String>,
    next: usize,
}

struct Maker<'d> {
    dice: &'d mut Dice,
    /// Whether rules stand beside that can be used: a set, a number, a flag and functions.
    helpers: bool,
}

const TEXTS: [&str; 8] = ["\"\"", "\"a\"", "\"shell\"", "\"user\"", "\"SECRET\"", "\"llama3.2:3b\"", "\"é\"", "`a.b`"];
const NUMBERS: [&str; 6] = ["0", "1", "2", "(-3)", "10", "4096"];
const LISTS: [&str; 5] = ["input.tools", "data.internal", "[\"a\", \"shell\"]", "[]", "split(\"a,b\", \",\")"];
const PATTERNS: [&str; 4] = ["`^[a-z]+$`", "`(?i)secret`", "`\\d+`", "`\\bshell\\b`"];

/// A module of the package `llmguard`.
pub(crate) fn module(dice: &mut Dice) -> String {
    let helpers = dice.throw(3) > 0;
    let mut maker = Maker { dice, helpers };
    let mut out = "package llmguard\n".to_owned();
    for _ in 0..=maker.dice.throw(2) {
        let mut known = Known::default();
        let body = maker.body(2, &mut known);
        let message = maker.value(&known);
        let _ = writeln!(out, "{} contains {message} if {{\n{body}}}", maker.dice.of(&["deny", "deny", "warn"]));
    }
    if !out.contains("deny contains") {
        out.push_str("deny contains \"always\"\n");
    }
    if helpers {
        maker.helpers = false;
        maker.write_helpers(&mut out);
    }
    out
}

impl Maker<'_> {
    fn write_helpers(&mut self, out: &mut String) {
        let none = Known::default();
        let mut known = Known::default();
        let body = self.body(1, &mut known);
        let text = self.text(1, &known);
        let _ = writeln!(out, "names contains {text} if {{\n{body}}}\nnames contains \"a\"");
        let (number, condition) = (self.number(1, &none), self.sure(&none));
        let _ = match self.dice.throw(4) {
            0 => writeln!(out, "most := {number} if {condition}"),
            1 => writeln!(out, "default most := 7\nmost := {number} if {condition}"),
            2 => writeln!(
                out,
                "most := n if {{\n\tn := {number}\n\t{condition}\n}}\nelse := {} if {}",
                self.number(1, &none),
                self.sure(&none)
            ),
            _ => writeln!(out, "most := n if {{\n\t{condition}\n\tn := {number}\n}} else := {}", self.number(1, &none)),
        };
        let argument = Known { texts: vec!["t".to_owned()], ..Known::default() };
        let (number, condition) = (self.number(1, &argument), self.sure(&argument));
        let _ = match self.dice.throw(3) {
            0 => writeln!(out, "score(t) := {number} if {condition}"),
            1 => writeln!(out, "score(t) := n if {{\n\t{condition}\n\tn := {number}\n}} else := {}", self.number(1, &argument)),
            _ => writeln!(out, "score(t) := {number}"),
        };
        let condition = self.condition(1, &argument);
        let _ = writeln!(out, "is_odd(t) if {condition}\nis_odd(t) if {}", self.condition(1, &argument));
        let _ = writeln!(out, "flag if {}", self.condition(1, &none));
    }

    /// Statements, each on a line of its own.
    fn body(&mut self, depth: usize, known: &mut Known) -> String {
        let mut out = String::new();
        for _ in 0..=self.dice.throw(3) {
            let statement = self.statement(depth, known);
            let _ = writeln!(out, "\t{statement}");
        }
        out
    }

    fn fresh(known: &mut Known, prefix: &str) -> String {
        known.next += 1;
        format!("{prefix}{}", known.next)
    }

    fn statement(&mut self, depth: usize, known: &mut Known) -> String {
        match self.dice.throw(12) {
            0 | 1 => {
                let name = Self::fresh(known, "m");
                known.messages.push(name.clone());
                format!("some {name} in input.messages")
            }
            2 => {
                let (list, name) = (self.list(depth, known), Self::fresh(known, "t"));
                known.texts.push(name.clone());
                format!("some {name} in {list}")
            }
            3 => {
                let (list, index, name) = (self.list(depth, known), Self::fresh(known, "n"), Self::fresh(known, "t"));
                known.numbers.push(index.clone());
                known.texts.push(name.clone());
                format!("some {index}, {name} in {list}")
            }
            4 => {
                let (value, name) = (self.number(depth, known), Self::fresh(known, "n"));
                known.numbers.push(name.clone());
                format!("{name} := {value}")
            }
            5 => {
                let (value, name) = (self.text(depth, known), Self::fresh(known, "t"));
                known.texts.push(name.clone());
                format!("{name} := {value}")
            }
            6 if self.dice.throw(3) == 0 => format!("not {}", self.condition(depth.saturating_sub(1), known)),
            // What is named may be looked at under `not`, whatever it is made of.
            6 => {
                let (value, list, name) = (self.text(depth, known), self.dice.of(&LISTS[..3]), Self::fresh(known, "t"));
                known.texts.push(name.clone());
                let list = if list.starts_with("data") { "[\"b\"]" } else { list };
                let looked = [format!("contains({name}, \"a\")"), format!("{name} in {list}"), format!("{name} == \"shell\"")];
                format!("{name} := {value}\n\tnot {}", looked[self.dice.throw(3)])
            }
            7 => {
                let (list, name) = (self.list(depth, known), Self::fresh(known, "e"));
                let inner = Known { texts: [known.texts.clone(), vec![name.clone()]].concat(), ..known.clone() };
                format!("every {name} in {list} {{ {} }}", self.condition(0, &inner))
            }
            8 => {
                let name = Self::fresh(known, "n");
                known.numbers.push(name.clone());
                format!("input.messages[{name}].channel == {}", self.dice.of(&TEXTS))
            }
            9 => {
                let (first, second) = (Self::fresh(known, "t"), Self::fresh(known, "n"));
                let (text, number) = (self.text(0, known), self.number(0, known));
                known.texts.push(first.clone());
                known.numbers.push(second.clone());
                format!("[{first}, {second}] := [{text}, {number}]")
            }
            _ => self.condition(depth, known),
        }
    }

    /// A condition that looks for nothing in a list.
    fn sure(&mut self, known: &Known) -> String {
        loop {
            let condition = self.condition(1, known);
            if !condition.contains("[_]") {
                return condition;
            }
        }
    }

    /// Something that holds, doesn't hold, or is nothing.
    fn condition(&mut self, depth: usize, known: &Known) -> String {
        let compare = ["==", "!=", "<", "<=", ">", ">="];
        match self.dice.throw(if self.helpers { 14 } else { 11 }) {
            0..=2 => format!("{} {} {}", self.number(depth, known), self.dice.of(&compare), self.number(depth, known)),
            3 | 4 => format!("{} {} {}", self.text(depth, known), self.dice.of(&compare), self.text(depth, known)),
            5 => format!("{}({}, {})", self.dice.of(&["contains", "startswith", "endswith"]), self.text(depth, known), self.text(0, known)),
            6 => format!("{} in {}", self.text(depth, known), self.list(depth, known)),
            7 => format!("regex.match({}, {})", self.dice.of(&PATTERNS), self.text(depth, known)),
            8 => self
                .dice
                .of(&["input.streams", "input.caller.over_loopback", "input.window", "input.nothing", "data.nothing.at"])
                .to_owned(),
            9 => format!("input.messages[_].text == {}", self.text(0, known)),
            10 => format!("{} == {}", self.list(depth, known), self.list(depth, known)),
            11 => format!("is_odd({})", self.text(depth, known)),
            12 => self.dice.of(&["flag", "names[\"a\"]", "names[input.model]", "most"]).to_owned(),
            _ => format!("score({}) {} {}", self.text(0, known), self.dice.of(&compare), self.number(0, known)),
        }
    }

    fn number(&mut self, depth: usize, known: &Known) -> String {
        if depth == 0 || self.dice.throw(3) == 0 {
            if !known.messages.is_empty() && self.dice.throw(3) == 0 {
                let of = self.dice.throw(known.messages.len());
                return format!("{}.tokens", known.messages[of]);
            }
            if !known.numbers.is_empty() && self.dice.throw(2) == 0 {
                return known.numbers[self.dice.throw(known.numbers.len())].clone();
            }
            let others = ["input.tokens", "input.window", "input.counts.bytes", "data.limit", "input.nothing", "input.messages[0].tokens"];
            return if self.dice.throw(2) == 0 { self.dice.of(&NUMBERS) } else { self.dice.of(&others) }.to_owned();
        }
        let below = depth - 1;
        match self.dice.throw(if self.helpers { 14 } else { 12 }) {
            0..=2 => {
                let operator = self.dice.of(&["+", "-", "*", "/", "%"]);
                format!("({} {operator} {})", self.number(below, known), self.number(below, known))
            }
            3 => format!("count({})", self.list(below, known)),
            4 => format!("count({})", self.text(below, known)),
            5 => format!("count({{{}}})", self.made(below, known, false)),
            6 => format!("sum([x | some y in input.messages; x := y.{}])", self.dice.of(&["tokens", "bytes", "nothing"])),
            7 => format!("object.get(data.windows, {}, {})", self.text(below, known), self.number(0, known)),
            8 => format!("{}({})", self.dice.of(&["abs", "floor", "ceil", "round"]), self.number(below, known)),
            9 => format!("indexof({}, {})", self.text(below, known), self.text(0, known)),
            10 => {
                format!("{}([{}, {}])", self.dice.of(&["max", "min", "sum", "product"]), self.number(below, known), self.number(0, known))
            }
            11 => format!("data.windows[{}]", self.text(below, known)),
            12 => "most".to_owned(),
            _ => format!("score({})", self.text(below, known)),
        }
    }

    fn text(&mut self, depth: usize, known: &Known) -> String {
        if depth == 0 || self.dice.throw(3) == 0 {
            if !known.messages.is_empty() && self.dice.throw(3) == 0 {
                let of = self.dice.throw(known.messages.len());
                return format!("{}.{}", known.messages[of], self.dice.of(&["text", "channel", "nothing"]));
            }
            if !known.texts.is_empty() && self.dice.throw(2) == 0 {
                return known.texts[self.dice.throw(known.texts.len())].clone();
            }
            let others =
                ["input.model", "input.route.path", "data.internal[0]", "data.internal[9]", "input.tools[0]", "input.messages[0].text"];
            return if self.dice.throw(2) == 0 { self.dice.of(&TEXTS) } else { self.dice.of(&others) }.to_owned();
        }
        let below = depth - 1;
        match self.dice.throw(9) {
            0 => format!("{}({})", self.dice.of(&["lower", "upper", "trim_space"]), self.text(below, known)),
            1 => format!("substring({}, {}, {})", self.text(below, known), self.dice.of(&["0", "1", "3"]), self.dice.of(&["0", "2", "-1"])),
            2 => format!("concat({}, {})", self.dice.of(&TEXTS), self.list(below, known)),
            3 => format!("sprintf(\"%d of %s\", [{}, {}])", self.number(below, known), self.text(below, known)),
            4 => format!("replace({}, \"a\", {})", self.text(below, known), self.text(0, known)),
            5 => format!("trim_{}({}, \"a\")", self.dice.of(&["left", "right", "prefix", "suffix"]), self.text(below, known)),
            6 => format!("{}[{}]", self.list(0, known), self.number(0, known)),
            7 => format!("sprintf(\"%v %v\", [{}, {}])", self.number(below, known), self.list(0, known)),
            _ => format!("object.get(input, {}, {})", self.dice.of(&["\"model\"", "\"nothing\""]), self.text(0, known)),
        }
    }

    fn list(&mut self, depth: usize, known: &Known) -> String {
        if depth == 0 || self.dice.throw(3) == 0 {
            return self.dice.of(&LISTS).to_owned();
        }
        let below = depth - 1;
        match self.dice.throw(if self.helpers { 8 } else { 7 }) {
            0 | 1 => format!("[{}]", self.made(below, known, true)),
            2 => format!("sort([{}, {}])", self.text(below, known), self.text(below, known)),
            3 => format!("split({}, {})", self.text(below, known), self.dice.of(&["\" \"", "\",\"", "\"a\""])),
            4 => format!("array.concat({}, {})", self.list(0, known), self.list(0, known)),
            5 => format!("array.slice({}, {}, {})", self.list(below, known), self.dice.of(&["0", "1", "-1"]), self.dice.of(&["1", "9"])),
            6 => format!("regex.find_n({}, {}, {})", self.dice.of(&PATTERNS), self.text(below, known), self.dice.of(&["1", "2", "-1"])),
            _ => "[x | some x in names]".to_owned(),
        }
    }

    /// What stands within the brackets of something that is made of a query.
    fn made(&mut self, depth: usize, known: &Known, texts: bool) -> String {
        let mut inner = known.clone();
        inner.next += 10;
        let mut query = if self.dice.throw(3) == 0 {
            self.condition(0, &inner)
        } else {
            let name = Self::fresh(&mut inner, "c");
            inner.messages.push(name.clone());
            format!("some {name} in input.messages")
        };
        for _ in 0..self.dice.throw(2) {
            let _ = write!(query, "; {}", self.statement(depth.min(1), &mut inner));
        }
        let head = if texts { self.text(0, &inner) } else { self.value(&inner) };
        format!("{head} | {query}")
    }

    /// A value of any kind.
    fn value(&mut self, known: &Known) -> String {
        match self.dice.throw(6) {
            0 => self.number(1, known),
            1 => format!("[{}, {}]", self.text(0, known), self.number(0, known)),
            2 => format!("{{\"a\": {}, \"b\": {}}}", self.text(0, known), self.number(0, known)),
            3 => format!("sprintf(\"%s\", [{}])", self.text(0, known)),
            _ => self.text(1, known),
        }
    }
}
