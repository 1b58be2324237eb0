# Modules that the guard and OPA are asked about, each behind a line with its name.
### context share
window := object.get(data.windows, input.model, 4096)
brought := sum([m.tokens | some m in input.messages; m.channel == "tool_result"])
deny contains sprintf("brought %d of %d", [brought, window]) if brought > window * 0.6
### context window asked for
deny contains "more than the window" if input.tokens > input.window
warn contains "no window" if not input.window
### shell beside tool results
deny contains "no shell here" if {
	some m in input.messages
	m.channel == "tool_result"
	"shell" in input.tools
}
### model per caller
deny contains "for the pod only" if {
	input.model in data.internal
	not input.caller.over_loopback
}
### long prompts
warn contains "long" if input.tokens > 2000
### addresses
deny contains "an address" if {
	some m in input.messages
	regex.match(`[a-z0-9._]+@corp\.example`, m.text)
}
### patterns of data
deny contains p if {
	some p in data.patterns
	some m in input.messages
	regex.match(p, m.text)
}
### words of ascii
warn contains m.text if {
	some m in input.messages
	regex.match(`^\w+$`, m.text)
}
warn contains "digits" if {
	some m in input.messages
	regex.match(`\d{2,}`, m.text)
}
warn contains "blank" if {
	some m in input.messages
	regex.match(`[^\s\w]\s`, m.text)
}
### word boundaries
warn contains m.text if {
	some m in input.messages
	regex.match(`(?i)\bignore\b|\bŁ`, m.text)
}
### found pieces
warn contains found if {
	some m in input.messages
	found := regex.find_n(`[a-z]+`, m.text, 2)
}
### split by pattern
warn contains parts if {
	some m in input.messages
	parts := regex.split(`[ ,;.]+`, m.text)
}
### upper and lower
warn contains [upper(m.text), lower(m.text)] if some m in input.messages
### trims
warn contains [trim(m.text, " \t"), trim_space(m.text), trim_left(m.text, "a "), trim_right(m.text, "a "), trim_prefix(m.text, "k="), trim_suffix(m.text, "all")] if {
	some m in input.messages
}
### split and concat
warn contains concat("+", split(m.text, " ")) if some m in input.messages
warn contains concat(",", {m.channel | some m in input.messages})
### split by nothing
warn contains split(m.text, "") if some m in input.messages
### replace
warn contains replace(m.text, "a", "bb") if some m in input.messages
### substring
warn contains [substring(m.text, 1, 3), substring(m.text, 0, -1)] if some m in input.messages
### indexof
warn contains [indexof(m.text, "a"), indexof(m.text, "日"), indexof(m.text, "zz")] if some m in input.messages
### prefixes
deny contains "registry" if startswith(input.model, "registry.")
deny contains "tag" if endswith(input.model, ":latest")
deny contains "slash" if contains(input.model, "/")
### any prefix
deny contains t if {
	some t in input.tools
	strings.any_prefix_match(t, ["sh", "send"])
}
warn contains t if {
	some t in input.tools
	strings.any_suffix_match([t], {"web", "email"})
}
### every typed
warn contains "all users" if {
	every m in input.messages { m.channel == "user" }
}
warn contains "short" if {
	every i, m in input.messages { m.tokens < 10; i < 3 }
}
### not typed
warn contains "no tools" if not input.tools[0]
warn contains "not long" if not input.tokens > 10
warn contains "no user" if not has_user
has_user if {
	some m in input.messages
	m.channel == "user"
}
### else
size := "large" if {
	input.tokens > 1000
} else := "middle" if {
	input.tokens > 10
} else := "small"
warn contains size
### default
default mood := "calm"
mood := "loud" if input.tokens > 50
warn contains mood
### functions
is_data(m) if m.channel in {"tool_result", "document"}
tokens_of(list) := sum([m.tokens | some m in list])
warn contains tokens_of([m | some m in input.messages; is_data(m)])
### functions with else
rank(channel) := 3 if {
	channel == "system"
} else := 2 if {
	channel == "user"
} else := 1
warn contains [m.channel, rank(m.channel)] if some m in input.messages
### sets
channels := {m.channel | some m in input.messages}
warn contains channels & {"user", "system"}
warn contains channels | {"extra"}
warn contains channels - {"user"}
warn contains count(channels)
### union and intersection
warn contains union({{t | some t in input.tools}, {"x"}})
warn contains intersection({{t | some t in input.tools}, {"shell", "search"}})
### object comprehension typed
texts := {i: text | some i, m in input.messages; text := m.text}
warn contains texts
warn contains object.keys(texts)
### object functions
warn contains object.union(input.route, {"api": "x", "more": {"a": 1}})
warn contains object.remove(input.route, ["api"])
warn contains object.filter(input.route, {"class"})
warn contains object.get(input, ["route", "api"], "none")
warn contains object.get(data.nested, ["a", "b", 2, "c"], "none")
### arrays
warn contains array.concat(input.tools, ["z"])
warn contains array.slice(input.tools, 1, 3)
warn contains array.reverse(input.tools)
warn contains sort(input.tools)
### numbers typed
warn contains [abs(input.tokens - 100), ceil(input.tokens / 3), floor(input.tokens / 3), round(input.tokens / 3)]
warn contains input.tokens % 7
### sum and product typed
warn contains [sum(t), max(t), min(t), product(t)] if {
	t := [m.tokens | some m in input.messages]
	count(t) > 0
	count(t) < 6
}
### division by zero
deny contains "never" if 1 / (input.counts.tools - input.counts.tools) > 0
warn contains "behind"
### kinds of values
warn contains type_name(v) if some v in input
warn contains k if {
	some k, v in input
	is_string(v)
}
warn contains "array" if is_array(input.tools)
warn contains "number" if is_number(input.tokens)
warn contains "object" if is_object(input.route)
warn contains "boolean" if is_boolean(input.streams)
warn contains "set" if is_set(input.tools)
warn contains "null" if is_null(input.model)
### to number
warn contains to_number(m.text) if some m in input.messages
### range
warn contains numbers.range(1, input.counts.messages)
### sprintf
warn contains sprintf("%d messages, %v, %s, %d%%", [input.counts.messages, input.streams, input.model, input.tokens])
### sprintf with the wrong verb
warn contains sprintf("%s and %d", [input.tokens, input.model])
### sprintf of a share typed
warn contains sprintf("%.2f of it, %v", [input.tokens / 7, input.tokens / 8])
### sprintf with too few and too many
warn contains sprintf("%d %d", [input.tokens])
warn contains sprintf("%d", [input.tokens, 2])
### sprintf of lists
warn contains sprintf("%v %v %v", [input.tools, input.route, {t | some t in input.tools}])
### comparison across kinds
warn contains "a" if input.model < 5
warn contains "b" if input.tokens < "a"
warn contains "c" if input.tools > {}
warn contains "d" if input.model == "llama3.2:3b"
warn contains "e" if input.streams != true
### order
warn contains sort([input.tokens, input.model, input.streams, null, input.tools, input.route])
### destructuring refused
warn contains [a, b] if [a, b] = input.tools
warn contains c if {"channel": c, "text": _, "tokens": _, "bytes": _} = input.messages[_]
### references with variables
warn contains input.messages[i].tokens + input.messages[j].tokens if {
	some i, j
	input.messages[i].channel == "system"
	input.messages[j].channel == "user"
}
### nested comprehensions typed
warn contains [[both | some n in input.messages; n.channel == m.channel; both := m.tokens + n.tokens] | some m in input.messages]
### undefined and what comes of it
deny contains input.nothing
deny contains input.model.nothing
deny contains input.messages[100].text
deny contains "a" if input.route.api.x == 1
warn contains "b" if not input.route.api.x
### wrong kinds in functions typed
deny contains lower(input.tokens)
deny contains count(input.tokens)
deny contains concat(",", input.messages)
deny contains sum(input.tools)
warn contains "not lower" if not lower(input.tokens)
### arithmetic over other kinds
deny contains input.model + 1
deny contains input.tokens * input.model
warn contains input.tokens - 3.5
### large numbers
warn contains input.tokens * 1000000000000
warn contains input.tokens + 0.1
### membership
warn contains "in" if "shell" in input.tools
warn contains "value" if "ollama" in input.route
### messages that are no texts
deny contains {"code": 1, "model": input.model}
deny contains input.tokens
deny contains null
deny contains [input.streams]
### helper rules
long_texts contains m.text if {
	some m in input.messages
	count(m.text) > 10
}
deny contains "many long" if count(long_texts) > 1
warn contains t if some t in long_texts
### unicode counts
warn contains count(m.text) if some m in input.messages
### chained
a := b + 1
b := c * 2
c := input.tokens
warn contains a
### same value twice
flag if input.streams
flag if input.tokens > 3
warn contains "flag" if flag
### shadowed
warn contains count if {
	count := input.tokens
}
### raw text
warn contains `a\b`
warn contains "tab\tquote\"é\u00e9"
### two values refused
p := 1 if input.tokens > 3
p := 2 if input.streams
deny contains p
### partial object refused
p[m.channel] := m.tokens if some m in input.messages
deny contains p
### recursion refused
a if b
b if a
deny contains "a" if a
### time refused
deny contains time.now_ns()
### dice refused
deny contains rand.intn("a", 3)
### network refused
deny contains http.send({"url": "http://localhost", "method": "GET"})
### flags refused
deny contains "a" if regex.match("(?x)a", input.model)
### verbs refused
deny contains sprintf("%08b", [input.tokens])
### with refused
deny contains "a" if input.model == "x" with input as {"model": "x"}
### old syntax refused
deny[msg] { msg := "a" }
### replace of nothing refused
deny contains replace(input.route.path, "", "-")
### not of what may not be there refused
deny contains "a" if not startswith(input.model, "a")
### not of data refused
deny contains "a" if not input.tokens > data.limit
### not of a rule without a value refused
size := 3 if input.tokens > 3
deny contains "a" if not size > 2
### not of what is worked out refused
deny contains "a" if not input.tokens + 1 > 2
### not of a call in a call refused
deny contains "a" if not count(lower(input.route.path)) > 3
### not of a field of a variable typed
deny contains m.text if {
	some m in input.messages
	not contains(m.text, "a")
	not m.channel in {"system", "tool_result"}
}
### not of a name
deny contains "a" if {
	model := input.model
	not startswith(model, "llama")
}
### not of a rule with a default typed
default size := 1
size := 3 if input.tokens > 3
deny contains "a" if not size > 2
### object of what may be nothing refused
deny contains {m.text: data.windows[m.text] | some m in input.messages}
### assigned nothing
deny contains "a" if { x := input.window }
deny contains "b" if x := input.window
deny contains "c" if {
	x := [input.model][0]
	not startswith(x, "a")
}
deny contains "d" if {
	some t in input.tools
	x := data.windows[t]; y := "é" # a comment
	not x == 3
}
deny contains "e" if {
	x := lower(input.model)
	not x == "a"
}
warn contains [y | some t in input.tools; y := data.windows[t]]
warn contains {y | some t in input.tools; y := data.windows[t]; z := input.window}
g if x := input.window
deny contains "g" if not g2
g2 if g
deny contains "h" if { f(input.tools) }
f(x) := y if {
	y := data.windows[x[0]]
}
deny contains "i" if {
	x := input.streams
}
### equality and unification
deny contains "a" if { x = input.window }
deny contains "b" if {
	[x, y] := [input.model, input.window]
	not x == y
}
deny contains "c" if input.window = input.tokens
deny contains [input.model, 1]
deny contains {"m": input.model}
### a pair of membership refused
deny contains "pair" if 0, "a" in input.tools
### assigned in every refused
deny contains "f" if {
	every t in input.tools {
		x := data.windows[t]
	}
}
### every with a value by itself refused
deny contains "f" if {
	every t in input.tools { data.windows[t] }
}
### every with what isn't there
warn contains "k" if {
	every t in input.tools { high(t) }
}
high(t) if data.windows[t] > 3
deny contains "g" if {
	every t in input.tools { t in {"shell", "search"} }
}
warn contains "f" if {
	every t in input.tools { known(t) }
}
known(t) if {
	x := data.windows[t]
	x > 3
}
### every over what may be nothing refused
deny contains "f" if {
	every t in input.tools { data.windows[t] > 3 }
}
### a list of what may be nothing
deny contains x if { x := [input.nothing | some m in input.messages] }
### a slice from before the beginning
deny contains x if { x := array.slice(["a","b"], -1, 9) }
### a slice of a list of what may be nothing
deny contains x if { x := array.slice([input.tools[0] | some m in input.messages], 0, 9) }
### where nothing stands
deny contains x if { x := indexof("a", "") }
### minus on the next line
deny contains x if {
	x := 5
	-3 != 7
}
### slice of undefined
deny contains x if { x := [input.nothing | some m in input.messages] == [] }
### a list with a pair taken apart
deny contains "x" if { [input.model | some m in input.messages; [a, b] := [m.text, m.tokens]] == input.tools }
### replace self
deny contains x if { some t1 in ["a.b"]; x := replace(t1, "a", t1) }
### a comparison as the term of a list refused
deny contains x if { x := [m.tokens > 1 | some m in input.messages] }
### a membership as the term of a list refused
deny contains x if { x := ["shell" in input.tools | some m in input.messages] }
### nested
deny contains x if { x := [[n.text | some n in input.messages; n.channel == m.channel] | some m in input.messages] }
### nested assign
deny contains x if { x := [[n.text | some n in input.messages; t := n.text; t != ""][0] | some m in input.messages; u := m.text] }
### wild
deny contains x if { x := [input.messages[_].text | true] }
### comment
deny contains x if {
	x := [m.text | # one ]
		some m in input.messages # two "
	] # three
}
### in a call
deny contains count([m.text | some m in input.messages; m.channel in ["user", "system"]])
### text last
deny contains [lower(m.text) | some m in input.messages; m.channel == "user"]
### raw last
deny contains x if x := [lower(m.text) | some m in input.messages; m.channel == `user`]
### head
f(t) := [x.text | some x in input.messages; x.text != t]
deny contains f("a")
### assigned text
deny contains t1 if {
	t1 := "user"
	some m2 in input.messages
}
deny contains t1 if t1 := `user`
### object in list
deny contains [{"a": m.nothing} | some m in input.messages]
### every in it
deny contains [m.text | some m in input.messages; every t in input.tools { t != m.text }]
### every empty call
deny contains "x" if { every e in array.slice([], 0, 1) { e in input.tools } }
### every empty literal
deny contains "x" if { every e in [] { e in input.tools } }
### every empty input
deny contains "x" if { every e in input.tools { e == "a" } }
### every in data
deny contains "x" if { every e in data.internal { e != "a" } }
### else behind a search, a value refused
deny contains "x" if {
	n3 := 2
	min([indexof("abc", "phi4"), n3]) < most
}
most := input.tokens if input.messages[_].text == data.internal[0]
else := 3 if input.streams
### else behind a search refused
deny contains most if true
most := input.tokens if input.messages[_].text == data.internal[0]
else := 3 if input.streams
### else behind some in refused
deny contains most if true
most := input.tokens if { some m in input.messages; m.text == data.internal[0] }
else := 3 if input.streams
### indexof neg
deny contains "x" if { indexof("abc", "phi4") < 3 }
### data behind a list, and a pair taken apart
deny contains n1 if {
	n1 := count({[t12, input.window] | some c11 in input.messages; some t12 in sort([data.internal[9], input.route.path])})
	[t2, n3] := [data.internal[0], input.counts.bytes]
}
### data behind a list that is made of nothing
deny contains n1 if {
	n1 := count({[t12, input.window] | some c11 in input.messages; some t12 in sort([data.internal[9], input.route.path])})
	n3 := data.internal[0]
}
### obj term
deny contains x if { x := [{"k0": a, "k1": a} | some a in input.tools] }
### obj term nl
deny contains x if { x := [{"k0": a,
"k1": a} | some a in input.tools] }
### obj count
deny contains x if { x := count([{"k0": a,
"k1": a} | some a in numbers.range(1, 3)]) }
### object no body
deny contains {"a": input.model, "b": "x"}
### object assigned
deny contains x if { x := {"a": input.model, "b": {"c": input.nothing}} }
deny contains y if y := {"a": "b"}
### set term
deny contains [{m.text, "a"} | some m in input.messages; m.channel == "us|er]" ]
### bar
deny contains [[n | n := m.text][0] | # a | b
	some m in input.messages ]
### raw
deny contains [lower(`|]`) | some m in input.messages]
### no body, and a list of nothing
deny contains count([1 | some d in data.nothing; d == input.model]) + count(input.tools)
### no body, in brackets
share := (count([1 | some d in data.nothing; d == input.model]) + count(input.tools)) # x
deny contains share
### else bare
share := 1 if input.tokens > 10 else := count([1 | some d in data.nothing; d == input.model]) + count(input.tools)
deny contains share
### bare every
deny contains "x" if every t in input.tools { t != "shell" }
### bare set
deny contains "x" if {1, 2} == {2, 1}
### comment before
deny contains "x" if { # one {
	# two if
	input.tokens > 1
}
### comment if
deny contains "x" if # why
	input.tokens > 1
### a function without a body
f(x) := x + 1
deny contains f(input.tokens)
### a text at the end of a body
deny contains "x" if input.model == "llama3.2:3b"
deny contains "y"
### not of a key that no message has to have refused
deny contains "x" if {
	some m in input.messages
	not contains(m.name, "a")
}
### not of a lookup in a set by what may be nothing refused
names contains "a"
deny contains "x" if not names[input.model]
### a value before else that may be nothing refused
share(t) := data.windows[t] if input.streams else := 1
deny contains share("a")
### a list with nothing but a condition
deny contains "x" if {
	n := count([1 | input.tokens > 3])
	n > 0
}
### a condition in a list, within a search
deny contains m.text if {
	some m in input.messages
	n := count([1 | m.tokens > 3])
	n == 0
}
### a set with nothing but a condition
deny contains x if x := {"x" | input.tokens > 3}
### an assignment in a list
deny contains x if x := [y | y := input.window]
### an index in a list, within a search
deny contains x if {
	some i
	x := [t | t := input.tools[i]]
	input.messages[i].text != ""
}
### conditions within conditions
deny contains x if {
	some m in input.messages
	x := [{t | t := m.text; count([1 | m.tokens > 3]) > 0} | m.bytes > 1]
}
### several values of one rule refused
p := m.text if some m in input.messages
deny contains p
### several values by an index refused
p := input.tools[_]
deny contains p
### several values of a function refused
f(c) := m.text if {
	some m in input.messages
	m.channel == c
}
deny contains f("user")
### keys that come twice refused
p := {c: t | some m in input.messages; c := m.channel; t := m.text}
deny contains p
### a key for each of a list
p := {i: t | some i, m in input.messages; t := m.text}
deny contains p
### in as a value refused
deny contains x if x := input.window in [1]
### in as a value of what is there typed
deny contains x if x := "shell" in input.tools
### an import that may be nothing refused
import input.model
deny contains "x" if not startswith(model, "llama")
### an import that is there typed
import input.tools
deny contains "x" if not "shell" in tools
### a rule as the term of a list
size := 3 if input.tokens > 100
deny contains x if x := [size | some m in input.messages]
### a bracket on the next line refused
flag if input.streams
deny contains "x" if {
	flag
	(1 + 1) == 2
}
### a head with a path refused
by_channel[m.channel] contains m.text if some m in input.messages
deny contains "x" if count(by_channel.user) > 1
### deny below deny refused
deny.x contains "a"
### a dash behind a class refused
deny contains "x" if regex.match(`pass[\s-_]?word`, input.model)
### a dash at the end of a set
deny contains "x" if regex.match(`^[\w.-]+:[\w-]+$`, input.model)
### a default that is worked out refused
default p := [1 | some a in numbers.range(1, 3000)]
deny contains p
### a default of a function refused
default f(x) := 7
deny contains f(1)
### a function of nine arguments refused
f(a, b, c, d, e, g, h, i, j) := a
deny contains f(1, 2, 3, 4, 5, 6, 7, 8, 9)
### an object taken apart refused
deny contains c if some {"channel": c} in input.messages
### a pair by a variable refused
deny contains "x" if {
	i := 1
	i, "shell" in input.tools
}
### a blank behind a minus refused
deny contains x if x := [- 5]
### a split by what may be nothing refused
deny contains x if x := regex.split(`\s*`, input.model)
### a set that is known
allowed := {"phi4"}
deny contains "x" if {
	model := input.model
	not model in allowed
}
### not with an assignment refused
deny contains "x" if not count(input.tools) = 3
