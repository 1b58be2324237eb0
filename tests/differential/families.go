package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/ollama/ollama/anthropic"
	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/openai"
)

// What Ollama makes of a body.
type reading struct {
	// The decoded body.
	decoded any
	// The request that the model's route gets, where it is another.
	final  any
	models []string
	tools  []tool
	stream bool
	// The request of a conversation, if it is one.
	chat *api.ChatRequest
}

type tool struct{ kind, name string }

// Reads a body as the route does: what follows its first value is passed over, as gin's binding does.
func decode[T any](body []byte) (*T, error) {
	out := new(T)
	return out, json.NewDecoder(bytes.NewReader(body)).Decode(out)
}

// Takes a converted request the way from the middleware to the route.
func pass[T any](request any) (*T, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	return decode[T](body)
}

// The models that a request names.
func named(models ...string) []string {
	return slices.DeleteFunc(models, func(model string) bool { return model == "" })
}

func streams(asked *bool) bool { return asked == nil || *asked }

func declared(tools api.Tools) []tool {
	var out []tool
	for _, declared := range tools {
		out = append(out, tool{declared.Type, declared.Function.Name})
	}
	return out
}

// Each family's way from bytes to what its handler works with. What the guard leaves out on purpose is taken out here, so that it
// makes no difference: the rendered prompt (which it can't judge), the size of generated images.
//
// Sources: server/routes.go, middleware/openai.go and middleware/anthropic.go of the Ollama that go.mod names.
var families = map[string]func([]byte) (*reading, error){
	"chat": func(body []byte) (*reading, error) {
		request, err := decode[api.ChatRequest](body)
		if err != nil {
			return nil, err
		}
		request.DebugRenderOnly = false
		return &reading{decoded: request, models: named(request.Model), tools: declared(request.Tools), stream: streams(request.Stream), chat: request}, nil
	},
	"generate": func(body []byte) (*reading, error) {
		request, err := decode[api.GenerateRequest](body)
		if err != nil {
			return nil, err
		}
		request.DebugRenderOnly = false
		request.Width, request.Height, request.Steps = 0, 0, 0
		return &reading{decoded: request, models: named(request.Model), stream: streams(request.Stream)}, nil
	},
	"show": func(body []byte) (*reading, error) {
		request, err := decode[api.ShowRequest](body)
		if err != nil {
			return nil, err
		}
		request.Model, request.Name = cmp.Or(request.Model, request.Name), ""
		request.System, request.Template, request.Options = "", "", nil
		return &reading{decoded: request, models: named(request.Model)}, nil
	},
	"pull": func(body []byte) (*reading, error) {
		request, err := decode[api.PullRequest](body)
		if err != nil {
			return nil, err
		}
		request.Model, request.Name = cmp.Or(request.Model, request.Name), ""
		request.Insecure, request.Username, request.Password = false, "", ""
		return &reading{decoded: request, models: named(request.Model), stream: streams(request.Stream)}, nil
	},
	"embed": func(body []byte) (*reading, error) {
		request, err := decode[api.EmbedRequest](body)
		if err != nil {
			return nil, err
		}
		return &reading{decoded: request, models: named(request.Model)}, nil
	},
	"embeddings": func(body []byte) (*reading, error) {
		request, err := decode[api.EmbeddingRequest](body)
		if err != nil {
			return nil, err
		}
		return &reading{decoded: request, models: named(request.Model)}, nil
	},
	"push": func(body []byte) (*reading, error) {
		request, err := decode[api.PushRequest](body)
		if err != nil {
			return nil, err
		}
		request.Model, request.Name = cmp.Or(request.Model, request.Name), ""
		request.Insecure, request.Username, request.Password = false, "", ""
		return &reading{decoded: request, models: named(request.Model), stream: streams(request.Stream)}, nil
	},
	"create": func(body []byte) (*reading, error) {
		request, err := decode[api.CreateRequest](body)
		if err != nil {
			return nil, err
		}
		request.Model, request.Name = cmp.Or(request.Model, request.Name), ""
		request.RemoteHost = ""
		return &reading{decoded: request, models: named(request.Model, request.From), stream: streams(request.Stream)}, nil
	},
	"copy": func(body []byte) (*reading, error) {
		request, err := decode[api.CopyRequest](body)
		if err != nil {
			return nil, err
		}
		return &reading{decoded: request, models: named(request.Source, request.Destination)}, nil
	},
	"delete": func(body []byte) (*reading, error) {
		request, err := decode[api.DeleteRequest](body)
		if err != nil {
			return nil, err
		}
		request.Model, request.Name = cmp.Or(request.Model, request.Name), ""
		return &reading{decoded: request, models: named(request.Model)}, nil
	},
	"openai-images": func(body []byte) (*reading, error) {
		request, err := decode[openai.ImageGenerationRequest](body)
		if err != nil {
			return nil, err
		}
		if request.Model == "" || request.Prompt == "" {
			return nil, errors.New("model or prompt")
		}
		generate, err := pass[api.GenerateRequest](openai.FromImageGenerationRequest(*request))
		if err != nil {
			return nil, err
		}
		return &reading{decoded: request, final: generate, models: named(request.Model)}, nil
	},
	"openai-image-edits": func(body []byte) (*reading, error) {
		request, err := decode[openai.ImageEditRequest](body)
		if err != nil {
			return nil, err
		}
		if request.Model == "" || request.Prompt == "" || request.Image == "" {
			return nil, errors.New("model, prompt or image")
		}
		converted, err := openai.FromImageEditRequest(*request)
		if err != nil {
			return nil, err
		}
		generate, err := pass[api.GenerateRequest](converted)
		if err != nil {
			return nil, err
		}
		return &reading{decoded: request, final: generate, models: named(request.Model)}, nil
	},
	"openai-chat": func(body []byte) (*reading, error) {
		request, err := decode[openai.ChatCompletionRequest](body)
		if err != nil {
			return nil, err
		}
		if len(request.Messages) == 0 {
			return nil, errors.New("no messages")
		}
		request.DebugRenderOnly = false
		converted, err := openai.FromChatRequest(*request)
		if err != nil {
			return nil, err
		}
		chat, err := pass[api.ChatRequest](converted)
		if err != nil {
			return nil, err
		}
		return &reading{decoded: request, final: chat, models: named(request.Model), tools: declared(chat.Tools), stream: request.Stream, chat: chat}, nil
	},
	"openai-completion": func(body []byte) (*reading, error) {
		request, err := decode[openai.CompletionRequest](body)
		if err != nil {
			return nil, err
		}
		request.DebugRenderOnly = false
		converted, err := openai.FromCompleteRequest(*request)
		if err != nil {
			return nil, err
		}
		generate, err := pass[api.GenerateRequest](converted)
		if err != nil {
			return nil, err
		}
		return &reading{decoded: request, final: generate, models: named(request.Model), stream: request.Stream}, nil
	},
	"openai-responses": func(body []byte) (*reading, error) {
		request, err := decode[openai.ResponsesRequest](body)
		if err != nil {
			return nil, err
		}
		converted, err := openai.FromResponsesRequest(*request)
		if err != nil {
			return nil, err
		}
		stream := request.Stream != nil && *request.Stream
		converted.Stream = &stream
		chat, err := pass[api.ChatRequest](converted)
		if err != nil {
			return nil, err
		}
		return &reading{decoded: request, final: chat, models: named(request.Model), tools: declared(chat.Tools), stream: stream, chat: chat}, nil
	},
	"openai-embeddings": func(body []byte) (*reading, error) {
		request, err := decode[openai.EmbedRequest](body)
		if err != nil {
			return nil, err
		}
		if format := request.EncodingFormat; format != "" && !strings.EqualFold(format, "float") && !strings.EqualFold(format, "base64") {
			return nil, errors.New("encoding_format")
		}
		if request.Input == "" {
			request.Input = []string{""}
		}
		if items, ok := request.Input.([]any); request.Input == nil || ok && len(items) == 0 {
			return nil, errors.New("invalid input")
		}
		embed, err := pass[api.EmbedRequest](api.EmbedRequest{Model: request.Model, Input: request.Input, Dimensions: request.Dimensions})
		if err != nil {
			return nil, err
		}
		return &reading{decoded: request, final: embed, models: named(request.Model)}, nil
	},
	"anthropic-messages": func(body []byte) (*reading, error) {
		request, err := decode[anthropic.MessagesRequest](body)
		if err != nil {
			return nil, err
		}
		if request.Model == "" || request.MaxTokens <= 0 || len(request.Messages) == 0 {
			return nil, errors.New("model, max_tokens or messages")
		}
		converted, err := anthropic.FromMessagesRequest(*request)
		if err != nil {
			return nil, err
		}
		chat, err := pass[api.ChatRequest](converted)
		if err != nil {
			return nil, err
		}
		return &reading{decoded: request, final: chat, models: named(request.Model), tools: declared(chat.Tools), stream: request.Stream, chat: chat}, nil
	},
}

// What of a decoded body is compared only after its conversion, which passes over parts that the guard leaves out.
func withoutBlocks(decoded any) any {
	switch request := decoded.(type) {
	case *openai.ChatCompletionRequest:
		out := *request
		out.Messages = append([]openai.Message(nil), request.Messages...)
		for i := range out.Messages {
			out.Messages[i].Content = nil
			out.Messages[i].ToolCalls = append([]openai.ToolCall(nil), out.Messages[i].ToolCalls...)
			for j := range out.Messages[i].ToolCalls {
				// No one reads it, and the guard knows one.
				out.Messages[i].ToolCalls[j].Type = ""
			}
		}
		return &out
	case *openai.ResponsesRequest:
		out := *request
		out.Input = openai.ResponsesInput{}
		return &out
	case *anthropic.MessagesRequest:
		out := *request
		out.System = nil
		out.Messages = append([]anthropic.MessageParam(nil), request.Messages...)
		for i := range out.Messages {
			out.Messages[i].Content = nil
		}
		return &out
	}
	return decoded
}
