package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/ollama/ollama/api"
)

// Words that may stand in a request without having been judged. There is nothing else: each can only stand at its place.
var (
	// Of a message.
	roles = []string{"system", "developer", "user", "assistant", "tool", "function"}
	// Of a message's part, an item, a block or a call.
	types = []string{
		"text", "image_url", "input_audio",
		"message", "input_text", "output_text", "refusal", "input_image", "function_call", "function_call_output", "reasoning",
		"image", "thinking", "tool_use", "server_tool_use", "tool_result", "web_search_tool_result",
		"function",
	}
	// What the guard itself calls the members of a part or a block.
	members = []string{
		"type", "text", "image_url", "input_audio", "source", "thinking", "signature", "id", "name", "input", "tool_use_id", "content",
		"is_error", "cache_control", "citations",
	}
	// Where a picture or a sound stands, if the guard has said that it can't be judged.
	media = []string{"image_url", "input_audio", "source", "detail", "file_id"}
	// What the server itself puts into the request that it makes of another API's.
	options = []string{"temperature", "top_p", "top_k", "stop", "num_predict", "seed", "frequency_penalty", "presence_penalty"}
	server  = []string{
		"json", "user", "system", "assistant", "tool", "function", "web_search", "object", "query", "string",
		"The search query to look up on the web",
		"Search the web for current information. Use this to find up-to-date information about any topic.",
		"web_search_tool_result_error",
	}
)

// No text that Go has read holds it, since those are UTF-8.
const between = "\x00\xff\x00"

func examine(record *record) answer {
	read, ok := families[record.family]
	if !ok {
		return answer{failure: "unknown family " + record.family}
	}
	before, beforeErr := read(record.original)
	after, afterErr := read(record.forwarded)
	var out answer
	if beforeErr == nil {
		out.taken |= 1
	}
	if afterErr == nil {
		out.taken |= 2
	}
	switch {
	case afterErr != nil && beforeErr == nil:
		out.failure = "refused: Ollama takes the original, but not what was forwarded: " + afterErr.Error()
	case afterErr != nil:
	default:
		out.failure = unjudged(record, after)
		if out.failure == "" {
			out.failure = otherValues(record, after)
		}
		if out.failure == "" && beforeErr == nil {
			out.failure = lost(record.family, before, after)
		}
	}
	return out
}

// The first string that was read without having been judged.
func unjudged(record *record, after *reading) string {
	texts := strings.Join(record.texts, between)
	failure := ""
	look := func(final bool) *walker {
		return &walker{found: func(path []step, text string) {
			if failure == "" && !strings.Contains(texts, text) && !exempt(record, path, text, final) {
				failure = fmt.Sprintf("unjudged: %s: %q", written(path), text)
			}
		}}
	}
	look(false).walk(reflect.ValueOf(after.decoded))
	if after.final != nil {
		look(true).walk(reflect.ValueOf(after.final))
	}
	if failure == "" && after.chat != nil {
		failure = unjudgedJoined(record, texts, after.chat)
	}
	return failure
}

func exempt(record *record, path []step, text string, final bool) bool {
	// The server's own words, in the request that it makes of another API's.
	if final && slices.Contains(server, text) {
		return true
	}
	last := path[len(path)-1]
	if last.key {
		// In a message's or the system's list of parts, and there alone.
		parts := !final && len(path) >= 3 && path[len(path)-2].name == "" && slices.Contains([]string{"content", "system"}, path[len(path)-3].name)
		return parts && slices.Contains(members, text) || final && path[0].name == "options" && slices.Contains(options, text) ||
			unreadable(record, path)
	}
	excused := false
	switch {
	case len(path) == 1 && slices.Contains([]string{"model", "from", "source", "destination"}, last.name):
		excused = slices.Contains(record.models, text)
	case last.name == "role":
		// The server lowers its case, as a judge does.
		excused = slices.Contains(roles, strings.ToLower(text)) || strings.Contains(strings.ToLower(strings.Join(record.texts, between)), text)
	case last.name == "type":
		excused = slices.Contains(types, text)
	case final && record.family == "anthropic-messages" && last.name == "content", !final && last.name == "arguments":
		excused = dumped(record, text)
	}
	return excused || unreadable(record, path)
}

// Whether it is, or is in, a picture or a sound that the guard has said it can't judge.
func unreadable(record *record, path []step) bool {
	where := written(path)
	return slices.ContainsFunc(record.unreadable, func(declared string) bool {
		rest, below := strings.CutPrefix(where, declared)
		return where == declared && declared == "image" || below && slices.ContainsFunc(media, func(name string) bool { return strings.Contains(rest, "."+name) })
	})
}

// Whether a text is JSON, all of whose strings were judged: a call's arguments, or a tool's result that the server has written so.
func dumped(record *record, text string) bool {
	var value any
	if json.Unmarshal([]byte(text), &value) != nil {
		return false
	}
	texts := strings.Join(record.texts, between)
	judged := true
	look := walker{found: func(_ []step, text string) { judged = judged && strings.Contains(texts, text) }}
	look.walk(reflect.ValueOf(value))
	return judged
}

// What a template joins, as Ollama's collate does: neighbours of one role, and all that the system says.
func unjudgedJoined(record *record, texts string, chat *api.ChatRequest) string {
	var system, turn []string
	role, failure := "", ""
	check := func(what string, parts []string) {
		joined := strings.Join(parts, "\n\n")
		if failure == "" && len(parts) > 1 && !strings.Contains(texts, joined) {
			failure = fmt.Sprintf("unjoined: %s: %q", what, joined)
		}
	}
	for _, message := range chat.Messages {
		if message.Role == "system" && message.Content != "" {
			system = append(system, message.Content)
		}
		if message.Role != role || role == "tool" {
			check("neighbours", turn)
			role, turn = message.Role, nil
		}
		if message.Content != "" {
			turn = append(turn, message.Content)
		}
	}
	check("neighbours", turn)
	check("system", system)
	return failure
}

func otherValues(record *record, after *reading) string {
	if !slices.Equal(after.models, named(record.models...)) {
		return fmt.Sprintf("model: %q, and the guard judged %q", after.models, record.models)
	}
	if after.stream != record.streams {
		return fmt.Sprintf("stream: %t, and the guard reads %t", after.stream, record.streams)
	}
	// The server leaves out a tool that has the name of its own.
	rest := record.tools
	for _, declared := range after.tools {
		at := slices.IndexFunc(rest, func(name string) bool {
			return name == declared.name || declared.name == "" && name == declared.kind
		})
		if at < 0 {
			return fmt.Sprintf("tools: %q is offered, and the guard judged %q", declared.name, record.tools)
		}
		rest = rest[at+1:]
	}
	return ""
}

func lost(family string, before, after *reading) string {
	pairs := [][2]any{{withoutBlocks(before.decoded), withoutBlocks(after.decoded)}, {before.final, after.final}}
	for _, pair := range pairs {
		var forms [2]walker
		for i := range forms {
			// The server brings these into an order of chance.
			forms[i].unordered = family == "anthropic-messages"
			forms[i].walk(reflect.ValueOf(pair[i]))
		}
		one, other := forms[0].form.String(), forms[1].form.String()
		if one != other {
			at := 0
			for at < len(one) && at < len(other) && one[at] == other[at] {
				at++
			}
			return fmt.Sprintf("lost: %q was %q", excerpt(other, at), excerpt(one, at))
		}
	}
	return ""
}

func excerpt(text string, at int) string { return text[max(0, at-60):min(len(text), at+60)] }
