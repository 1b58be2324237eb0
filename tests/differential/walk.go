package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/ollama/ollama/api"
)

// A step from a value to one in it: a field's name, a key, or a place in a list.
type step struct {
	name  string
	index int
	key   bool
}

// Walks through what was read, writing it in one form that equal readings share, and showing each string on its way.
type walker struct {
	form  bytes.Buffer
	path  []step
	found func(path []step, text string)
	// The order of a call's arguments makes no difference.
	unordered bool
}

func (w *walker) say(text string) {
	if w.found != nil && text != "" {
		w.found(w.path, text)
	}
}

func (w *walker) in(at step, value reflect.Value) {
	w.path = append(w.path, at)
	w.walk(value)
	w.path = w.path[:len(w.path)-1]
}

func (w *walker) member(key string, value reflect.Value) {
	w.path = append(w.path, step{name: key, key: true})
	w.say(key)
	w.path = w.path[:len(w.path)-1]
	w.form.WriteString(strconv.Quote(key))
	w.form.WriteByte(':')
	w.in(step{name: key}, value)
	w.form.WriteByte(',')
}

// In a form, nothing, null and an empty list are the same, as they are to the server: it asks for their length.
func (w *walker) walk(value reflect.Value) {
	switch value.Kind() {
	case reflect.Invalid:
		w.form.WriteByte('-')
	case reflect.Pointer, reflect.Interface:
		if value.IsNil() {
			w.form.WriteByte('-')
			return
		}
		switch held := value.Interface().(type) {
		case *api.ToolPropertiesMap:
			w.form.WriteByte('{')
			for key, property := range held.All() {
				w.member(key, reflect.ValueOf(property))
			}
			w.form.WriteByte('}')
			return
		}
		w.walk(value.Elem())
	case reflect.Struct:
		if arguments, ok := value.Interface().(api.ToolCallFunctionArguments); ok {
			w.form.WriteByte('{')
			if w.unordered {
				all := arguments.ToMap()
				for _, key := range slices.Sorted(maps.Keys(all)) {
					w.member(key, reflect.ValueOf(all[key]))
				}
			} else {
				for key, argument := range arguments.All() {
					w.member(key, reflect.ValueOf(argument))
				}
			}
			w.form.WriteByte('}')
			return
		}
		w.form.WriteString(value.Type().Name())
		w.form.WriteByte('{')
		for i := range value.NumField() {
			field := value.Type().Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name == "" {
				// It has no name of its own in the body.
				w.walk(value.Field(i))
				w.form.WriteByte(',')
				continue
			}
			w.form.WriteString(name)
			w.form.WriteByte(':')
			w.in(step{name: name}, value.Field(i))
			w.form.WriteByte(',')
		}
		w.form.WriteByte('}')
	case reflect.Slice:
		switch held := value.Interface().(type) {
		case json.RawMessage:
			var read any
			if len(held) > 0 {
				if err := json.Unmarshal(held, &read); err != nil {
					w.form.WriteString("unreadable")
					w.say(string(held))
					return
				}
			}
			w.walk(reflect.ValueOf(read))
			return
		case api.ImageData:
			fmt.Fprintf(&w.form, "%x", []byte(held))
			return
		}
		if value.Len() == 0 {
			w.form.WriteByte('-')
			return
		}
		w.form.WriteByte('[')
		for i := range value.Len() {
			w.in(step{index: i}, value.Index(i))
			w.form.WriteByte(',')
		}
		w.form.WriteByte(']')
	case reflect.Map:
		w.form.WriteByte('{')
		keys := value.MapKeys()
		slices.SortFunc(keys, func(one, other reflect.Value) int { return strings.Compare(one.String(), other.String()) })
		for _, key := range keys {
			w.member(key.String(), value.MapIndex(key))
		}
		w.form.WriteByte('}')
	case reflect.String:
		w.say(value.String())
		w.form.WriteString(strconv.Quote(value.String()))
	case reflect.Bool:
		w.form.WriteString(strconv.FormatBool(value.Bool()))
	case reflect.Int, reflect.Int32, reflect.Int64:
		w.form.WriteString(strconv.FormatInt(value.Int(), 10))
	case reflect.Float32, reflect.Float64:
		number := value.Float()
		if number == 0 {
			number = 0 // Without a sign.
		}
		w.form.WriteString(strconv.FormatFloat(number, 'g', -1, 64))
	default:
		panic("a kind that this program doesn't know: " + value.Kind().String())
	}
}

func written(path []step) string {
	var out strings.Builder
	for _, at := range path {
		switch {
		case at.name == "" && !at.key:
			fmt.Fprintf(&out, "[%d]", at.index)
		case out.Len() == 0:
			out.WriteString(at.name)
		default:
			out.WriteString("." + at.name)
		}
	}
	return out.String()
}
