// oracle: what Ollama reads from a request that the guard has forwarded, and whether that is what the guard judged.
//
// It reads records from stdin, each what the guard was sent, what it forwarded, and what it judged of it, and answers each, in their
// order, with one byte (1: Ollama takes the original, 2: it takes what was forwarded) and the failure in words, if there is one.
//
// The invariant: bodies are decoded by Ollama's own types and converted by its own functions, in the order in which its routes do it.
// Nothing here knows how the guard decodes.
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
)

// A record, all of whose strings and lists have their length in front, in 32 bits, little end first.
type record struct {
	family     string
	streams    bool
	original   []byte
	forwarded  []byte
	models     []string
	tools      []string
	texts      []string
	unreadable []string
}

type answer struct {
	taken   byte
	failure string
}

// How many records are looked at together, by all processors.
const batch = 256

func main() {
	in, out := bufio.NewReaderSize(os.Stdin, 1<<20), bufio.NewWriterSize(os.Stdout, 1<<16)
	if err := serve(in, out); err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
}

func serve(in *bufio.Reader, out *bufio.Writer) error {
	for {
		var records []record
		for len(records) < batch {
			// What waits is answered before more is awaited.
			if len(records) > 0 && in.Buffered() == 0 {
				break
			}
			next, err := read(in)
			if errors.Is(err, io.EOF) && len(records) == 0 {
				return out.Flush()
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			records = append(records, next)
		}
		for _, said := range examineAll(records) {
			if err := errors.Join(out.WriteByte(said.taken), writeString(out, said.failure)); err != nil {
				return err
			}
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
}

func examineAll(records []record) []answer {
	answers := make([]answer, len(records))
	workers := min(runtime.GOMAXPROCS(0), len(records))
	var wait sync.WaitGroup
	for worker := range workers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := worker; i < len(records); i += workers {
				answers[i] = examine(&records[i])
			}
		}()
	}
	wait.Wait()
	return answers
}

func read(in *bufio.Reader) (record, error) {
	var out record
	family, err := readBytes(in)
	if err != nil {
		return out, err
	}
	out.family = string(family)
	lists := []*[]string{&out.models, &out.tools, &out.texts, &out.unreadable}
	streams, err := in.ReadByte()
	if err != nil {
		return out, inside(err)
	}
	out.streams = streams != 0
	if out.original, err = readBytes(in); err != nil {
		return out, inside(err)
	}
	if out.forwarded, err = readBytes(in); err != nil {
		return out, inside(err)
	}
	for _, list := range lists {
		count, err := readLength(in)
		if err != nil {
			return out, inside(err)
		}
		for range count {
			item, err := readBytes(in)
			if err != nil {
				return out, inside(err)
			}
			*list = append(*list, string(item))
		}
	}
	return out, nil
}

// An end within a record is one too early.
func inside(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func readLength(in *bufio.Reader) (uint32, error) {
	var length [4]byte
	_, err := io.ReadFull(in, length[:])
	return binary.LittleEndian.Uint32(length[:]), err
}

func readBytes(in *bufio.Reader) ([]byte, error) {
	length, err := readLength(in)
	if err != nil {
		return nil, err
	}
	out := make([]byte, length)
	_, err = io.ReadFull(in, out)
	return out, inside(err)
}

func writeString(out *bufio.Writer, text string) error {
	var length [4]byte
	binary.LittleEndian.PutUint32(length[:], uint32(len(text)))
	_, first := out.Write(length[:])
	_, second := out.WriteString(text)
	return errors.Join(first, second)
}
