// around: a process of a pod that wants to reach the model past the guard, by what plain clients can't do.
//
//	around ways PORT ADDRESS    each way to the port, on the loopback and on the pod's address
//	around revive PORT SERVER…  calls along a connection that is older than the server, which it starts
//
// Each line is a way, a tab, and what came of it: guard, model, open, or the words of an error. Who answered shows in the answer: the
// guard puts X-Request-ID into each, a model server doesn't.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

const (
	mptcp    = 262
	fastOpen = 0x20000000
	patience = 2
)

var request = []byte("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")

func main() {
	port, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	switch os.Args[1] {
	case "ways":
		ways(port, os.Args[3])
	case "revive":
		say("an older connection", func() (string, error) { return revive(port, os.Args[3:]) })
	default:
		os.Exit(2)
	}
}

func say(way string, try func() (string, error)) {
	answer, err := try()
	if err != nil {
		answer = err.Error()
	}
	fmt.Printf("%s\t%s\n", way, answer)
}

func ways(port int, address string) {
	for _, to := range []string{"127.0.0.1", "::1", address} {
		say("multipath TCP to "+to, func() (string, error) { return ask(to, port, mptcp, nil, false) })
		say("data with the first packet to "+to, func() (string, error) { return ask(to, port, 0, nil, true) })
		// To its own address a pod has another device, and nothing is answered on this one.
		if to != address {
			lo := func(socket int) error { return syscall.BindToDevice(socket, "lo") }
			say("bound to the loopback, to "+to, func() (string, error) { return ask(to, port, 0, lo, false) })
		}
	}
	from := func(address string) func(int) error {
		return func(socket int) error { return syscall.Bind(socket, place(address, 0)) }
	}
	say("from another loopback address", func() (string, error) { return ask("127.0.0.1", port, 0, from("127.0.0.9"), false) })
	say("from the pod's address", func() (string, error) { return ask("127.0.0.1", port, 0, from(address), false) })
	for _, raw := range []struct {
		way                    string
		family, kind, protocol int
	}{
		{"raw IPv4", syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_TCP},
		{"raw IPv4 with its header", syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_RAW},
		{"raw IPv6", syscall.AF_INET6, syscall.SOCK_RAW, syscall.IPPROTO_TCP},
		{"raw packets", syscall.AF_PACKET, syscall.SOCK_RAW, 0x0300},
		{"packets", syscall.AF_PACKET, syscall.SOCK_DGRAM, 0x0300},
	} {
		say(raw.way, func() (string, error) {
			socket, err := syscall.Socket(raw.family, raw.kind, raw.protocol)
			if err != nil {
				return "", err
			}
			return "open", syscall.Close(socket)
		})
	}
}

func place(address string, port int) syscall.Sockaddr {
	ip := net.ParseIP(address)
	if four := ip.To4(); four != nil {
		return &syscall.SockaddrInet4{Port: port, Addr: [4]byte(four)}
	}
	return &syscall.SockaddrInet6{Port: port, Addr: [16]byte(ip.To16())}
}

// open makes a socket of an address's family that gives up after a while.
func open(address string, protocol int) (int, error) {
	family := syscall.AF_INET
	if net.ParseIP(address).To4() == nil {
		family = syscall.AF_INET6
	}
	socket, err := syscall.Socket(family, syscall.SOCK_STREAM, protocol)
	if err != nil {
		return 0, err
	}
	limit := syscall.Timeval{Sec: patience}
	return socket, errors.Join(
		syscall.SetsockoptTimeval(socket, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit),
		syscall.SetsockoptTimeval(socket, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &limit),
	)
}

// ask connects, asks, and says who answered.
func ask(address string, port, protocol int, prepare func(int) error, early bool) (string, error) {
	socket, err := open(address, protocol)
	if err != nil {
		return "", err
	}
	defer syscall.Close(socket)
	if prepare != nil {
		if err := prepare(socket); err != nil {
			return "", err
		}
	}
	if early {
		if err := syscall.Sendto(socket, request, fastOpen, place(address, port)); err != nil {
			return "", err
		}
		return answered(socket)
	}
	if err := syscall.Connect(socket, place(address, port)); err != nil {
		return "", err
	}
	if _, err := syscall.Write(socket, request); err != nil {
		return "", err
	}
	return answered(socket)
}

func answered(socket int) (string, error) {
	var got []byte
	buffer := make([]byte, 4096)
	for !bytes.Contains(got, []byte("\r\n\r\n")) {
		count, err := syscall.Read(socket, buffer)
		if err != nil {
			return "", err
		}
		if count == 0 {
			return "", fmt.Errorf("closed after %q", got)
		}
		got = append(got, buffer[:count]...)
	}
	head := bytes.ToLower(got)
	switch {
	case bytes.Contains(head, []byte("\r\nx-request-id:")):
		return "guard", nil
	case bytes.HasPrefix(head, []byte("http/1.1 200")):
		return "model", nil
	}
	return "", fmt.Errorf("odd answer %.60q", got)
}

// revive connects from the server's port while that is free, resets the connection, starts the server, and calls back along it: what
// the kernel remembers of the first one might let the second one pass.
func revive(port int, server []string) (string, error) {
	const address = "127.0.0.1"
	reusing := func(port int) (int, error) {
		socket, err := open(address, 0)
		if err != nil {
			return 0, err
		}
		return socket, errors.Join(
			syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1),
			syscall.Bind(socket, place(address, port)),
		)
	}
	listener, err := reusing(0)
	if err != nil {
		return "", err
	}
	if err := syscall.Listen(listener, 1); err != nil {
		return "", err
	}
	name, err := syscall.Getsockname(listener)
	if err != nil {
		return "", err
	}
	meeting := name.(*syscall.SockaddrInet4).Port
	first, err := reusing(port)
	if err != nil {
		return "", err
	}
	if err := syscall.Connect(first, place(address, meeting)); err != nil {
		return "", err
	}
	other, _, err := syscall.Accept(listener)
	if err != nil {
		return "", err
	}
	reset := syscall.Linger{Onoff: 1}
	for _, socket := range []int{listener, first, other} {
		if err := errors.Join(syscall.SetsockoptLinger(socket, syscall.SOL_SOCKET, syscall.SO_LINGER, &reset), syscall.Close(socket)); err != nil {
			return "", err
		}
	}

	command := exec.Command(server[0], server[1:]...)
	if err := command.Start(); err != nil {
		return "", err
	}
	defer func() {
		command.Process.Kill()
		command.Wait()
	}()
	listens := fmt.Sprintf(":%04X 00000000:0000 0A ", port)
	listens6 := fmt.Sprintf(":%04X 00000000000000000000000000000000:0000 0A ", port)
	for try := 0; ; try++ {
		four, _ := os.ReadFile("/proc/net/tcp")
		six, _ := os.ReadFile("/proc/net/tcp6")
		if bytes.Contains(four, []byte(listens)) || bytes.Contains(six, []byte(listens6)) {
			break
		}
		if try == 100 {
			return "", errors.New("the server doesn't listen")
		}
		time.Sleep(50 * time.Millisecond)
	}
	again, err := reusing(meeting)
	if err != nil {
		return "", err
	}
	defer syscall.Close(again)
	if err := syscall.Connect(again, place(address, port)); err != nil {
		return "", err
	}
	if _, err := syscall.Write(again, request); err != nil {
		return "", err
	}
	return answered(again)
}
