//! Modules, checked and compiled: whatever can be wrong with them is said here, before they meet a request.
//!
//! The invariant: a program that comes out of this ends. It calls nothing but the functions of [`super::functions`], no rule calls
//! itself, and no chain of calls is longer than [`MOST_CALLS`], so that the evaluator's own stack is bounded too.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use regorus::languages::rego::compiler::Compiler;
use regorus::rvm::instructions::LiteralOrRegister;
use regorus::rvm::{Instruction, Program, RegoVM};
use regorus::unstable::{Expr, Module};
use regorus::{Engine, Value};

use super::{differences, format, functions, patterns, rewritten, shapes, walk};
use crate::policy::{PolicyError, RegoSpec, nearest, shown};

/// The package whose rules are asked.
pub(super) const PACKAGE: &str = "data.llmguard";
/// What is asked of it, all in one go.
const DECISION: &str = "data.llmguard_decision.result";
/// The rules that are read.
const RULES: [&str; 2] = ["deny", "warn"];
/// The most bytes of one module.
const MOST_MODULE: usize = 64 * 1024;
/// The most modules.
const MOST_MODULES: usize = 32;
/// The most bytes of all of them. The library reads each level of nested brackets twice, so that this and [`MOST_NESTED`] bound how long
/// that takes.
const MOST_TEXT: usize = 128 * 1024;
/// How deeply brackets of any kind may be nested.
const MOST_NESTED: usize = 9;
/// How many operators, dots and brackets may stand in a row: each nests what stands before it one level deeper.
const MOST_JOINED: usize = 400;
/// How deep the values may be that rules make, with those that they use: to let go of one takes stack for each level.
const DEEPEST: usize = 2000;
/// The longest chain of rules that use one another.
const MOST_CALLS: usize = 32;

/// What modules compile to.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) program: Arc<Program>,
    pub(super) data: Value,
    /// The patterns of the policy, as the library for them reads them.
    pub(super) patterns: Arc<HashMap<String, Value>>,
    /// The texts that stand in the modules, word by word.
    pub(super) texts: HashSet<String>,
    /// What stands between the numbers of those that hold nothing else that is computed.
    pub(super) templates: Vec<Vec<String>>,
}

/// Something is wrong in a module.
fn wrong(module: &str, line: u32, column: u32, reason: &str) -> PolicyError {
    PolicyError::in_spec(format!("rego.modules.{module}"), format!("line {line}, column {column}: {reason}"))
}

/// The same as the library says it: a drawing of the place over several lines, perhaps of several places, the innermost last.
fn told(default: &str, said: &str) -> PolicyError {
    let reason = said.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or_else(|| said.lines().last().unwrap_or(said));
    let place = said.lines().rev().find_map(|line| {
        let mut parts = line.strip_prefix("--> ")?.rsplitn(3, ':');
        let (column, line, module) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
        Some((module, line, column))
    });
    let reason = in_our_words(reason.trim_start_matches("Compilation error: "));
    match place {
        Some((module, line, column)) if module != DECISION => wrong(module, line, column, &reason),
        _ => PolicyError::in_spec(default, reason),
    }
}

fn in_our_words(reason: &str) -> String {
    let name = |prefix: &str| Some(reason.strip_prefix(prefix)?.trim_matches(['\'', ' ']).to_owned());
    if let Some(name) = name("Unknown function: ").or_else(|| name("Missing builtin function: ")) {
        return no_function(&name);
    }
    match reason {
        "the `with` keyword is not supported by the compiler yet" => "`with` is for tests, which are run by check --test".to_owned(),
        _ => format!("this is no Rego: {}", shown(reason).replace("\\'", "'")),
    }
}

fn no_function(name: &str) -> String {
    match nearest(name, functions::names()).filter(|near| *near != name) {
        Some(near) => format!("'{}' is no function that a rule can call: did you mean '{near}'?", shown(name)),
        None => format!("'{}' is no function that a rule can call; those that are stand in docs/rego.md", shown(name)),
    }
}

/// Where brackets are nested too deeply, or too much is joined in one expression, if that is anywhere: the line, the column, and what.
fn too_deep(text: &str) -> Option<(u32, u32, String)> {
    let (mut line, mut column, mut depth, mut joined) = (1, 0, 0_usize, 0_usize);
    // Behind what a text or a comment ends.
    let mut within: Option<char> = None;
    let mut escaped = false;
    for c in text.chars() {
        column += 1;
        match (within, c) {
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(end), c) if c == end && !escaped => within = None,
            // A text in quotes ends with its line at the latest, and is none then.
            (Some('"'), '\n') => within = None,
            (None, '"' | '`') => within = Some(c),
            (None, '#') => within = Some('\n'),
            (None, '[' | '{' | '(') => {
                depth += 1;
                if depth > MOST_NESTED {
                    return Some((line, column, format!("brackets are nested more than {MOST_NESTED} levels deep")));
                }
                joined = if c == '{' { 0 } else { joined + 1 };
            }
            (None, ']' | '}' | ')') => depth = depth.saturating_sub(1),
            (None, ',' | ';' | ':') => joined = 0,
            (None, '.' | '+' | '-' | '*' | '/' | '%' | '&' | '|' | '=' | '<' | '>' | '!') => joined += 1,
            _ => {}
        }
        if joined > MOST_JOINED {
            return Some((
                line,
                column,
                format!("more than {MOST_JOINED} operators, dots and brackets stand in a row, without a comma or a semicolon"),
            ));
        }
        escaped = false;
        if c == '\n' {
            (line, column) = (line + 1, 0);
        }
    }
    None
}

/// The texts of the modules, with those that are patterns.
#[derive(Default)]
struct Texts {
    all: HashSet<String>,
    patterns: HashMap<String, Value>,
    /// Patterns may also stand in the data.
    has_patterns: bool,
}

impl Texts {
    fn read(&mut self, name: &str, module: &Module) -> Result<(), PolicyError> {
        let mut error = None;
        walk::expressions(module, &mut |expr| {
            if let Some(text) = walk::literal(expr) {
                self.all.insert(text.to_owned());
            }
            if let Expr::Call { fcn, params, .. } = expr
                && let Err(fault) = self.call(name, fcn.span().text(), params.first().map(|first| &**first))
            {
                error.get_or_insert(fault);
            }
        });
        error.map_or(Ok(()), Err)
    }

    fn call(&mut self, module: &str, function: &str, first: Option<&Expr>) -> Result<(), PolicyError> {
        let is_pattern = function.starts_with("regex.");
        self.has_patterns |= is_pattern;
        let Some((first, text)) = first.and_then(|first| Some((first, walk::literal(first)?))) else { return Ok(()) };
        let fault = |reason: &str| Err(wrong(module, first.span().line, first.span().col, reason));
        if is_pattern && !self.patterns.contains_key(text) {
            match patterns::translate(text).map_err(str::to_owned).and_then(|pattern| patterns::check(&pattern).map(|()| pattern)) {
                Ok(pattern) if function == "regex.split" && regex::Regex::new(&pattern).is_ok_and(|pattern| pattern.is_match("")) => {
                    return fault("a pattern that fits nothing at all splits in two ways");
                }
                Ok(pattern) => drop(self.patterns.insert(text.to_owned(), Value::from(pattern))),
                Err(reason) => return fault(&format!("this is no pattern: {}", shown(&reason).replace("\\'", "'"))),
            }
        }
        if function == "sprintf" && !format::is_read(text) {
            return fault("of the verbs of sprintf %d, %s, %v, %q, %x, %f and %.2f are read, and %% for a percent sign");
        }
        Ok(())
    }

    /// A pattern in the data is compiled when it is asked for.
    fn read_data(&mut self, data: &serde_json::Value) {
        match data {
            serde_json::Value::String(text) => {
                if let Ok(pattern) = patterns::translate(text) {
                    self.patterns.insert(text.clone(), Value::from(pattern));
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| self.read_data(item)),
            serde_json::Value::Object(members) => members.values().for_each(|value| self.read_data(value)),
            _ => {}
        }
    }
}

/// Reads a module, and gives its package.
pub(super) fn add(engine: &mut Engine, name: &str, text: &str) -> Result<String, PolicyError> {
    if text.len() > MOST_MODULE {
        let reason = format!("it has {} bytes; at most {MOST_MODULE} are read", text.len());
        return Err(PolicyError::in_spec(format!("rego.modules.{name}"), reason));
    }
    if let Some((line, column, reason)) = too_deep(text) {
        return Err(wrong(name, line, column, &reason));
    }
    engine.add_policy(name.to_owned(), text.to_owned()).map_err(|error| told(&format!("rego.modules.{name}"), &error.to_string()))
}

/// Compiles what a policy has.
pub(super) fn compile(spec: &RegoSpec) -> Result<Compiled, PolicyError> {
    let at = |path: &str, reason: String| PolicyError::in_spec(format!("rego{path}"), reason);
    let none = BTreeMap::new();
    let written = spec.modules.as_ref().unwrap_or(&none);
    if written.is_empty() {
        return Err(at(".modules", "there is none, so that nothing would be asked: leave the section out".to_owned()));
    }
    if written.len() > MOST_MODULES {
        return Err(at(".modules", format!("there are {} modules; at most {MOST_MODULES} are read", written.len())));
    }
    let bytes: usize = written.values().map(String::len).sum();
    if bytes > MOST_TEXT {
        return Err(at(".modules", format!("the modules have {bytes} bytes together; at most {MOST_TEXT} are read")));
    }
    let mut engine = walk::reader();
    // What the package declares: the name, the module, and where in it.
    let mut rules: BTreeMap<String, (String, u32, u32)> = BTreeMap::new();
    for (name, text) in written {
        if name.is_empty() || name.len() > 64 || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            return Err(at(".modules", format!("'{}' is no name for a module: letters, digits, - and _ make one", shown(name))));
        }
        let package = add(&mut engine, name, text)?;
        if package == "data.llmguard_decision" {
            return Err(at(&format!(".modules.{name}"), "the package llmguard_decision is the guard's own".to_owned()));
        }
        if package == "data.llmguard.answer" || package.starts_with("data.llmguard.answer.") {
            let reason = "rules for answers aren't read yet: the package llmguard is asked about requests";
            return Err(at(&format!(".modules.{name}"), reason.to_owned()));
        }
        let Some(module) = engine.get_modules().last() else { continue };
        for (rule, line, column) in module.policy.iter().map(|rule| walk::declared(rule)) {
            if functions::names().any(|known| known == rule) {
                return Err(wrong(name, line, column, &format!("{rule} is the name of a function")));
            }
        }
        if package == PACKAGE {
            for rule in &module.policy {
                let (rule, line, column) = walk::declared(rule);
                rules.entry(rule).or_insert((name.clone(), line, column));
            }
        }
    }
    if let Some((module, line, column)) = rules.get("redact") {
        return Err(wrong(module, *line, *column, "`redact` isn't read yet: a request can be denied or warned about, not edited"));
    }
    let asked: Vec<&str> = RULES.into_iter().filter(|rule| rules.contains_key(*rule)).collect();
    if asked.is_empty() {
        let reason =
            "no module has a rule that is asked for: `deny contains message if …` or `warn contains message if …` in `package llmguard`";
        return Err(at(".modules", reason.to_owned()));
    }
    let mut texts = Texts::default();
    let modules: Vec<_> = engine.get_modules().clone();
    let maybe: HashSet<String> = modules.iter().flat_map(|module| differences::maybe_nothing(module)).collect();
    one_meaning(&modules, written)?;
    for (module, (name, text)) in modules.iter().zip(written) {
        shapes::check(text, module, &maybe).map_err(|(line, column, reason)| wrong(name, line, column, reason))?;
        texts.read(name, module)?;
        differences::check(module, &maybe).map_err(|(line, column, reason)| wrong(name, line, column, reason))?;
    }
    let mut data: serde_json::Map<String, serde_json::Value> = spec.data.clone().unwrap_or_default().into_iter().collect();
    if texts.has_patterns {
        data.values().for_each(|value| texts.read_data(value));
    }
    if data.insert(rewritten::KEY.to_owned(), true.into()).is_some() {
        return Err(at(".data", format!("the key {} is the guard's own", rewritten::KEY)));
    }
    let data = serde_json::Value::Object(data);

    let mut rewritten = BTreeMap::new();
    for ((name, text), module) in written.iter().zip(&modules) {
        let text = rewritten::of(text, module).map_err(|(line, column, reason)| wrong(name, line, column, reason))?;
        rewritten.insert(name.clone(), text);
    }
    // What is wrong is told of what was written, not of the other words for it.
    let mut program = match self::program(&rewritten, &asked) {
        Ok(program) => program,
        Err(error) => return Err(self::program(written, &asked).err().unwrap_or(error)),
    };
    check(&program, &rules, &modules, written)?;
    functions::bound(Arc::make_mut(&mut program));

    let data = Value::from(data);
    let mut vm = RegoVM::new();
    vm.load_program(Arc::clone(&program));
    vm.set_data(data.clone()).map_err(|_| at(".data", "a package of the modules has the same name as a key here".to_owned()))?;
    let templates = texts.all.iter().filter_map(|text| format::between_numbers(text)).collect();
    Ok(Compiled { program, data, patterns: Arc::new(texts.patterns), texts: texts.all, templates })
}

/// Sees that each name by which something is imported means one thing: the library keeps one for a package, and OPA one for a module.
fn one_meaning(modules: &[regorus::unstable::Ref<Module>], names: &BTreeMap<String, String>) -> Result<(), PolicyError> {
    let rules: HashSet<String> = modules.iter().flat_map(|module| module.policy.iter().map(|rule| walk::declared(rule).0)).collect();
    let mut known: HashMap<&str, String> = HashMap::new();
    for (module, of) in modules.iter().zip(names.keys()) {
        for (name, what) in walk::imports(module) {
            let fault = |reason: &str| Err(wrong(of, what.span().line, what.span().col, &format!("{}: {reason}", shown(name))));
            if rules.contains(name) {
                return fault("a rule has this name as well: import it by another, `import … as other`");
            }
            if functions::names().any(|function| function == name) {
                return fault("a function has this name: import it by another, `import … as other`");
            }
            let meant = path_of(what);
            if known.insert(name, meant.clone()).is_some_and(|before| before != meant) {
                return fault("another import has this name and means something else: import it by another, `import … as other`");
            }
        }
    }
    Ok(())
}

/// A reference as it is written with dots.
fn path_of(expr: &Expr) -> String {
    match expr {
        Expr::RefDot { refr, field, .. } => format!("{}.{}", path_of(refr), field.0.text()),
        Expr::RefBrack { refr, index, .. } => format!("{}[{}]", path_of(refr), index.span().text()),
        other => other.span().text().to_owned(),
    }
}

/// Compiles modules, and the question that asks for these rules.
fn program(modules: &BTreeMap<String, String>, asked: &[&str]) -> Result<Arc<Program>, PolicyError> {
    let fault = |error: &dyn ToString| told("rego.modules", &error.to_string());
    let mut engine = walk::reader();
    for (name, text) in modules {
        let added = engine.add_policy(name.clone(), text.clone());
        added.map_err(|error| told(&format!("rego.modules.{name}"), &error.to_string()))?;
    }
    let members: Vec<String> = asked.iter().map(|rule| format!("\"{rule}\": {PACKAGE}.{rule}")).collect();
    let decision = format!("package llmguard_decision\n\nresult := {{{}}}\n", members.join(", "));
    engine.add_policy(DECISION.to_owned(), decision).map_err(|error| fault(&error))?;
    let policy = engine.compile_with_entrypoint(&DECISION.into()).map_err(|error| fault(&error))?;
    Compiler::compile_from_policy(&policy, &[DECISION]).map_err(|error| fault(&error))
}

/// Looks at what came out: what it calls, what each rule is, and which rules use which.
fn check(
    program: &Program,
    rules: &BTreeMap<String, (String, u32, u32)>,
    modules: &[regorus::unstable::Ref<Module>],
    names: &BTreeMap<String, String>,
) -> Result<(), PolicyError> {
    let calls = program.instruction_data.builtin_call_params.iter().filter_map(|call| {
        let info = program.get_builtin_info(call.builtin_index)?;
        Some((info.name.as_str(), call.num_args))
    });
    for (name, given) in calls {
        let takes = functions::takes(name);
        let fault = match takes {
            None => no_function(name),
            Some(takes) if takes != given => format!("{name} takes {takes} arguments, and here are {given}"),
            Some(_) => continue,
        };
        let found = modules.iter().zip(names.keys()).find_map(|(module, of)| {
            let mut place = None;
            walk::expressions(module, &mut |expr| {
                if let Expr::Call { fcn, params, .. } = expr
                    && fcn.span().text() == name
                    && params.len() == usize::from(given)
                {
                    place.get_or_insert((fcn.span().line, fcn.span().col));
                }
            });
            place.map(|(line, column)| wrong(of, line, column, &fault))
        });
        return Err(found.unwrap_or_else(|| PolicyError::in_spec("rego.modules", fault.clone())));
    }
    if program.has_host_await {
        return Err(PolicyError::in_spec("rego.modules", "a rule waits for an answer from outside, and there is nobody to give one"));
    }
    for rule in RULES {
        let info = program.rule_infos.iter().find(|info| info.name == format!("{PACKAGE}.{rule}"));
        if let (Some(info), Some((module, line, column))) = (info, rules.get(rule))
            && !(info.function_info.is_none() && format!("{:?}", info.rule_type) == "PartialSet")
        {
            return Err(wrong(module, *line, *column, &format!("{rule} is a set of messages: `{rule} contains message if …`")));
        }
    }
    // Two values at once are an error to OPA, and none to the evaluator here: where it could come to that, `else` says which counts.
    for info in &program.rule_infos {
        let kind = format!("{:?}", info.rule_type);
        let reason = match kind.as_str() {
            "PartialObject" => "this makes an object key by key: `name := {key: value | …}` makes it as a whole",
            "Complete" if info.definitions.len() > 1 && !info.early_exit_on_first_success => {
                "this may have two values at once: with `else` between them the first that holds counts"
            }
            _ => continue,
        };
        let name = info.name.rsplit('.').next().unwrap_or(&info.name);
        let found = modules.iter().zip(names.keys()).find_map(|(module, of)| {
            let places: Vec<_> = module.policy.iter().map(|rule| walk::declared(rule)).filter(|(rule, ..)| rule == name).collect();
            places.last().map(|(_, line, column)| wrong(of, *line, *column, reason))
        });
        return Err(found.unwrap_or_else(|| PolicyError::in_spec("rego.modules", format!("{}: {reason}", shown(&info.name)))));
    }
    // A misspelt rule would guard nothing.
    let used: HashSet<&str> = program.rule_infos.iter().filter_map(|info| info.name.strip_prefix(PACKAGE)?.strip_prefix('.')).collect();
    for (rule, (module, line, column)) in rules.iter().filter(|(rule, _)| !used.contains(rule.as_str())) {
        if let Some(meant) = nearest(rule, ["deny", "warn", "redact"]).filter(|meant| meant != rule) {
            return Err(wrong(module, *line, *column, &format!("nothing asks for '{}': did you mean '{meant}'?", shown(rule))));
        }
    }
    chains(program)
}

/// Which rules use which, and that none of them uses itself in the end.
fn chains(program: &Program) -> Result<(), PolicyError> {
    // Where the code of each rule begins; what stands behind the last beginning is its own.
    let mut begins: BTreeMap<usize, usize> = BTreeMap::new();
    for (rule, info) in program.rule_infos.iter().enumerate() {
        let blocks = info.definitions.iter().flatten().chain(info.destructuring_blocks.iter().flatten());
        begins.extend(blocks.map(|begin| (*begin as usize, rule)));
    }
    let mut uses: Vec<Vec<usize>> = vec![Vec::new(); program.rule_infos.len()];
    for (place, instruction) in program.instructions.iter().enumerate() {
        let Some((_, rule)) = begins.range(..=place).next_back() else { continue };
        match instruction {
            Instruction::CallRule { rule_index, .. } => uses[*rule].push(usize::from(*rule_index)),
            Instruction::FunctionCall { params_index } => {
                let call = program.instruction_data.get_function_call_params(*params_index);
                uses[*rule].extend(call.map(|call| usize::from(call.func_rule_index)));
            }
            Instruction::VirtualDataDocumentLookup { params_index } => {
                let lookup = program.instruction_data.get_virtual_data_document_lookup_params(*params_index);
                let path = lookup.iter().flat_map(|lookup| &lookup.path_components).map_while(|part| match part {
                    LiteralOrRegister::Literal(index) => program.literals.get(usize::from(*index))?.as_string().ok(),
                    LiteralOrRegister::Register(_) => None,
                });
                let path = path.fold("data".to_owned(), |path, part| format!("{path}.{part}"));
                let is_below = |name: &str, of: &str| name.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
                let meant = |info: &regorus::rvm::program::RuleInfo| is_below(&info.name, &path) || is_below(&path, &info.name);
                uses[*rule].extend(program.rule_infos.iter().enumerate().filter(|(_, info)| meant(info)).map(|(place, _)| place));
            }
            _ => {}
        }
    }
    // How deep what a rule makes can be: as deep as all that it makes itself, with what each rule gives it that it uses.
    let mut makes: Vec<usize> = vec![1; program.rule_infos.len()];
    for (place, instruction) in program.instructions.iter().enumerate() {
        let named = format!("{instruction:?}");
        if ["Array", "Set", "Object", "Comprehension"].iter().any(|kind| named.starts_with(kind))
            && let Some((_, rule)) = begins.range(..=place).next_back()
        {
            makes[*rule] += 1;
        }
    }
    // The rules by how long the longest chain from them is: first those that use none.
    let mut length: Vec<Option<usize>> = vec![None; uses.len()];
    for _ in 0..=MOST_CALLS {
        for rule in 0..uses.len() {
            let below: Option<usize> = uses[rule].iter().try_fold(0, |most, used| Some(most.max(length.get(*used).copied()?? + 1)));
            length[rule] = below.filter(|length| *length <= MOST_CALLS);
        }
    }
    let endless = length.iter().zip(&program.rule_infos).filter(|(length, _)| length.is_none()).map(|(_, info)| info.name.as_str());
    let mut order: Vec<usize> = (0..uses.len()).collect();
    order.sort_by_key(|rule| length[*rule]);
    let mut depth = makes;
    for rule in order {
        depth[rule] = uses[rule].iter().fold(depth[rule], |sum, used| sum.saturating_add(depth.get(*used).copied().unwrap_or_default()));
        let info = &program.rule_infos[rule];
        if depth[rule] > DEEPEST && info.name != DECISION && length[rule].is_some() {
            let reason = format!(
                "{} makes too much of what other rules make: values may be {DEEPEST} levels deep",
                shown(info.name.trim_start_matches("data."))
            );
            return Err(PolicyError::in_spec("rego.modules", reason));
        }
    }
    // The guard's own asks for all of them.
    let Some(name) = endless.max_by_key(|name| *name != DECISION) else { return Ok(()) };
    let name = name.trim_start_matches("data.");
    let reason = format!("{} uses itself, or a chain of more than {MOST_CALLS} rules", shown(name));
    Err(PolicyError::in_spec("rego.modules", reason))
}
