// Asks the real OPA what modules say of inputs. A line of JSON comes in for each set of modules, and a line goes out.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// Question is a set of modules, what they find under data, and the inputs that they are asked about.
type Question struct {
	Modules map[string]string `json:"modules"`
	Data    map[string]any    `json:"data"`
	Inputs  []json.RawMessage `json:"inputs"`
}

// Said is what the modules say of one input.
type Said struct {
	Deny  []any  `json:"deny"`
	Warn  []any  `json:"warn"`
	Error string `json:"error,omitempty"`
}

// Answer is what they say of each, or why they are no modules.
type Answer struct {
	Refused string `json:"refused,omitempty"`
	Said    []Said `json:"said"`
}

func main() {
	in := bufio.NewReader(os.Stdin)
	out := bufio.NewWriter(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		answer, err := json.Marshal(ask(line))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		out.Write(append(answer, '\n'))
		out.Flush()
	}
}

func ask(line []byte) Answer {
	var question Question
	if err := json.Unmarshal(line, &question); err != nil {
		return Answer{Refused: err.Error()}
	}
	if question.Data == nil {
		question.Data = map[string]any{}
	}
	options := []func(*rego.Rego){
		rego.Query("data.llmguard"),
		rego.Store(inmem.NewFromObject(question.Data)),
		rego.SetRegoVersion(ast.RegoV1),
	}
	for name, text := range question.Modules {
		options = append(options, rego.Module(name, text))
	}
	ctx := context.Background()
	prepared, err := rego.New(options...).PrepareForEval(ctx)
	if err != nil {
		return Answer{Refused: err.Error()}
	}
	answer := Answer{}
	for _, input := range question.Inputs {
		answer.Said = append(answer.Said, said(ctx, prepared, input))
	}
	return answer
}

func said(ctx context.Context, prepared rego.PreparedEvalQuery, input json.RawMessage) Said {
	value, err := ast.ValueFromReader(bytes.NewReader(input))
	if err != nil {
		return Said{Error: err.Error()}
	}
	results, err := prepared.Eval(ctx, rego.EvalParsedInput(value))
	if err != nil {
		return Said{Error: err.Error()}
	}
	said := Said{}
	if len(results) == 1 && len(results[0].Expressions) == 1 {
		if rules, ok := results[0].Expressions[0].Value.(map[string]any); ok {
			said.Deny, _ = rules["deny"].([]any)
			said.Warn, _ = rules["warn"].([]any)
		}
	}
	return said
}
