//! The screen: lines laid out for a width, and a terminal on which the last of them change while an answer arrives.
//!
//! The invariants: no line is wider than the screen, or an update would land in the wrong place; what goes into a file or a pipe
//! holds no control characters and is complete; and a reader that goes away ends nothing but the output.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};

use terminal_size::{Height, Width};

/// From this width on the two sides stand beside each other: that of a terminal of a hundred columns, of which the last stays free.
const BESIDE_FROM: usize = 99;
/// Wider lines are hard to read.
const WIDEST: usize = 140;
const NARROWEST: usize = 40;
/// The width where nobody says one: of a file.
const FILE_WIDTH: usize = 100;
const INDENT: &str = "  ";
/// For the word at the beginning of a row.
const LABEL: usize = 8;

/// What a text is, for its colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Faint,
    Strong,
    Client,
    Model,
    Guard,
    Good,
    Bad,
}

impl Tone {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Faint => "\x1b[2m",
            Self::Strong => "\x1b[1m",
            Self::Client => "\x1b[36m",
            Self::Model => "\x1b[35m",
            Self::Guard => "\x1b[1;94m",
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[31m",
        }
    }
}

/// A text of one tone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    tone: Tone,
    text: Cow<'static, str>,
}

/// A line: its spans, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line(Vec<Span>);

impl Line {
    pub(super) fn of(tone: Tone, text: impl Into<Cow<'static, str>>) -> Self {
        Self::default().and(tone, text)
    }

    pub(super) fn and(mut self, tone: Tone, text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        if !text.is_empty() {
            self.0.push(Span { tone, text });
        }
        self
    }

    fn width(&self) -> usize {
        self.0.iter().map(|span| span.text.chars().count()).sum()
    }

    fn indented(mut self) -> Self {
        if !self.0.is_empty() {
            self.0.insert(0, Span { tone: Tone::Plain, text: INDENT.into() });
        }
        self
    }

    /// The line as it is written.
    pub(super) fn paint(&self, colours: bool) -> String {
        let mut out = String::new();
        for Span { tone, text } in &self.0 {
            match tone.code() {
                "" => out.push_str(text),
                _ if !colours => out.push_str(text),
                code => {
                    out.push_str(code);
                    out.push_str(text);
                    out.push_str("\x1b[0m");
                }
            }
        }
        out.truncate(out.trim_end_matches(' ').len());
        out
    }
}

/// Something that is said: by whom, and what. `marks` are words in it that stand out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) label: &'static str,
    pub(super) label_tone: Tone,
    pub(super) text: String,
    pub(super) tone: Tone,
    pub(super) marks: &'static [(&'static str, Tone)],
}

impl Row {
    fn lay_out(&self, width: usize) -> Vec<Line> {
        let pad = |text: &str| format!("{text:<LABEL$}");
        let texts = wrap(&self.text, width.saturating_sub(LABEL));
        let lines = texts.into_iter().enumerate().map(|(number, text)| {
            let label = if number == 0 { pad(self.label) } else { pad("") };
            marked(Line::of(self.label_tone, label), &text, self.tone, self.marks)
        });
        lines.collect()
    }
}

fn marked(mut line: Line, text: &str, tone: Tone, marks: &[(&str, Tone)]) -> Line {
    let mut rest = text;
    while let Some((place, mark, mark_tone)) =
        marks.iter().filter_map(|(mark, tone)| Some((rest.find(mark)?, *mark, *tone))).min_by_key(|(place, ..)| *place)
    {
        line = line.and(tone, rest[..place].to_owned()).and(mark_tone, mark.to_owned());
        rest = &rest[place + mark.len()..];
    }
    line.and(tone, rest.to_owned())
}

/// One side of a scene.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) rows: Vec<Row>,
    /// How it ended.
    pub(super) verdict: Vec<Row>,
}

/// A scene, as far as it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) title: String,
    pub(super) tag: String,
    pub(super) asks: Vec<Row>,
    pub(super) without: Side,
    /// Until it begins there is none.
    pub(super) with: Option<Side>,
}

const WITHOUT: &str = "without the guard";
const WITH: &str = "with the guard";
const BAR: &str = " │ ";

impl View {
    /// The scene as lines of at most this width.
    pub(super) fn lay_out(&self, width: usize) -> Vec<Line> {
        let inner = width.saturating_sub(INDENT.len());
        let mut lines = vec![rule(&self.title, &self.tag, inner)];
        lines.extend(self.asks.iter().flat_map(|row| row.lay_out(inner)));
        lines.push(Line::default());
        if width >= BESIDE_FROM {
            let bar = BAR.chars().count();
            let left = (inner - bar) / 2;
            let right = inner - bar - left;
            let (direct, guarded) = (&self.without, &self.with.clone().unwrap_or_default());
            lines.extend(beside(vec![Line::of(Tone::Strong, WITHOUT)], vec![Line::of(Tone::Strong, WITH)], left));
            lines.extend(beside(rows(&direct.rows, left), rows(&guarded.rows, right), left));
            lines.extend(beside(rows(&direct.verdict, left), rows(&guarded.verdict, right), left));
        } else {
            let sides = [(WITHOUT, Some(&self.without)), (WITH, self.with.as_ref())];
            for (name, side) in sides.into_iter().filter_map(|(name, side)| Some((name, side?))) {
                lines.push(Line::of(Tone::Strong, name));
                lines.extend(rows(&side.rows, inner));
                lines.extend(rows(&side.verdict, inner));
                lines.push(Line::default());
            }
            lines.pop();
        }
        lines.into_iter().map(Line::indented).collect()
    }
}

fn rows(rows: &[Row], width: usize) -> Vec<Line> {
    rows.iter().flat_map(|row| row.lay_out(width)).collect()
}

/// A title that a line follows, and a tag at its end.
fn rule(title: &str, tag: &str, width: usize) -> Line {
    let between = width.saturating_sub(title.chars().count() + tag.chars().count() + 2).max(2);
    let (space, tag) = if tag.is_empty() { ("──", String::new()) } else { (" ", tag.to_owned()) };
    let line = format!(" {}{space}", "─".repeat(between.saturating_sub(usize::from(space.len() > 1))));
    Line::of(Tone::Strong, title.to_owned()).and(Tone::Faint, line).and(Tone::Guard, tag)
}

/// Two columns, the first of this width.
fn beside(left: Vec<Line>, right: Vec<Line>, width: usize) -> Vec<Line> {
    let rows = left.len().max(right.len());
    let (mut left, mut right) = (left.into_iter(), right.into_iter());
    let line = |left: Line, right: Line| {
        let gap = " ".repeat(width.saturating_sub(left.width()));
        let mut line = left.and(Tone::Plain, gap).and(Tone::Faint, BAR);
        line.0.extend(right.0);
        line
    };
    (0..rows).map(|_| line(left.next().unwrap_or_default(), right.next().unwrap_or_default())).collect()
}

/// Breaks a text into lines of at most this width: between words, and in a word only where it alone is wider.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_inclusive(' ') {
        let length = word.trim_end_matches(' ').chars().count();
        if used + length > width && used > 0 {
            lines.push(String::new());
            used = 0;
        }
        for character in word.chars() {
            if used == width {
                if character == ' ' {
                    continue;
                }
                lines.push(String::new());
                used = 0;
            }
            if let Some(line) = lines.last_mut() {
                line.push(character);
            }
            used += 1;
        }
    }
    lines
}

/// Where the lines go.
pub(super) struct Screen {
    out: std::io::Stdout,
    is_terminal: bool,
    colours: bool,
    /// The lines that may still change, as they stand on the terminal.
    open: Vec<String>,
    /// Whoever read it has gone.
    gone: bool,
}

impl Screen {
    /// Stdout.
    pub(super) fn new() -> Self {
        let out = std::io::stdout();
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let is_terminal = out.is_terminal() && variable("TERM").is_none_or(|term| term != "dumb");
        Self { out, is_terminal, colours: is_terminal && variable("NO_COLOR").is_none(), open: Vec::new(), gone: false }
    }

    /// Whether somebody looks on while it happens.
    pub(super) fn is_live(&self) -> bool {
        self.is_terminal && !self.gone
    }

    /// Whether nobody will ever read what is written.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// The width of a line right now.
    pub(super) fn width(&self) -> usize {
        let columns = || std::env::var("COLUMNS").ok()?.parse().ok();
        let width = match terminal_size::terminal_size_of(&self.out) {
            // A line that fills the last column would take two on some terminals.
            Some((Width(columns), _)) if self.is_terminal => usize::from(columns).saturating_sub(1),
            _ => columns().unwrap_or(FILE_WIDTH),
        };
        width.clamp(NARROWEST, WIDEST)
    }

    /// Writes lines that stay.
    pub(super) fn print(&mut self, lines: &[Line]) -> std::io::Result<()> {
        let text: String = lines.iter().map(|line| line.paint(self.colours) + "\n").collect();
        self.write(&text)
    }

    /// Shows lines that may still change, in the place of those that were shown last.
    pub(super) fn update(&mut self, lines: &[Line]) -> std::io::Result<()> {
        if !self.is_live() {
            return Ok(());
        }
        let height = terminal_size::terminal_size_of(&self.out).map_or(24, |(_, Height(height))| usize::from(height));
        let painted: Vec<String> = lines.iter().map(|line| line.paint(self.colours)).collect();
        let text = difference(&self.open, &painted, height);
        self.open = painted;
        if text.is_empty() { Ok(()) } else { self.write(&text) }
    }

    /// Shows lines for the last time: they stay.
    pub(super) fn settle(&mut self, lines: &[Line]) -> std::io::Result<()> {
        if self.is_live() {
            self.update(lines)?;
            self.open.clear();
            return Ok(());
        }
        self.print(lines)
    }

    fn write(&mut self, text: &str) -> std::io::Result<()> {
        if self.gone {
            return Ok(());
        }
        let mut out = self.out.lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                self.gone = true;
                Ok(())
            }
            written => written,
        }
    }
}

/// What a terminal must be told so that the lines above its cursor become others. What has left its screen stays as it is.
fn difference(old: &[String], new: &[String], height: usize) -> String {
    let mut text = String::new();
    for (number, line) in old.iter().enumerate() {
        let up = old.len() - number;
        let line_now = new.get(number).map_or("", String::as_str);
        if line_now != line && up < height {
            text.extend([&format!("\x1b[{up}A\r"), line_now, "\x1b[K", &format!("\x1b[{up}B\r")]);
        }
    }
    for line in new.iter().skip(old.len()) {
        text += line;
        text += "\r\n";
    }
    // The cursor would be seen to jump.
    if text.is_empty() { text } else { format!("\x1b[?25l{text}\x1b[?25h") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(label: &'static str, text: &str) -> Row {
        Row { label, text: text.into(), ..Row::default() }
    }

    fn view() -> View {
        let long = "a text that is long enough for more than one line of a narrow screen, and a-word-that-is-wider-than-anything-"
            .to_owned()
            + &"x".repeat(90);
        let side = Side { rows: vec![row("model", &long), row("guard", "no")], verdict: vec![row("✓", "well")] };
        View { title: "1  A title".into(), tag: "LLM01".into(), asks: vec![row("client", &long)], without: side.clone(), with: Some(side) }
    }

    fn plain(view: &View, width: usize) -> Vec<String> {
        view.lay_out(width).iter().map(|line| line.paint(false)).collect()
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        for width in NARROWEST..=WIDEST {
            for line in plain(&view(), width) {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn the_sides_stand_beside_each_other_where_there_is_room() {
        let both = |width| plain(&view(), width).iter().any(|line| line.contains(WITHOUT) && line.contains(WITH));
        assert!(both(BESIDE_FROM) && !both(BESIDE_FROM - 1));
    }

    #[test]
    fn wrapping_loses_nothing_but_spaces() {
        let text = "one two  three abcdefghijklmnop é日本 end";
        for width in 1..30 {
            let lines = wrap(text, width);
            assert!(lines.iter().all(|line| line.trim_end().chars().count() <= width), "{width}: {lines:?}");
            let letters = |text: &str| text.replace(' ', "");
            assert_eq!(letters(&lines.concat()), letters(text));
        }
        assert_eq!(wrap("ab cd ef", 5), ["ab cd", "ef"].map(String::from));
        assert_eq!(wrap("", 5), [""]);
    }

    #[test]
    fn without_colours_there_are_no_control_characters() {
        let marks: &[(&str, Tone)] = &[("secret", Tone::Bad)];
        let line = marked(Line::of(Tone::Guard, "model "), "a secret and a secret!", Tone::Plain, marks);
        assert_eq!(line.paint(false), "model a secret and a secret!");
        assert_eq!(line.paint(true).matches("\x1b[31msecret\x1b[0m").count(), 2);
    }

    #[test]
    fn an_update_writes_only_what_has_changed() {
        let lines = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(difference(&lines(&["a", "b"]), &lines(&["a", "b"]), 24), "");
        let changed = difference(&lines(&["a", "b"]), &lines(&["a", "c", "d"]), 24);
        assert_eq!(changed, "\x1b[?25l\x1b[1A\rc\x1b[K\x1b[1B\rd\r\n\x1b[?25h");
        assert_eq!(difference(&lines(&["a", "b"]), &lines(&["x", "b"]), 2), "", "what has left the screen can't be reached");
    }
}
