// Datagrams as Go programs send them, each to an echo service and back: datagrams dial|listen HOST:PORT…
//
// dial connects a socket to each; listen has one socket for all (of each family), and says who answers.
package main

import (
	"fmt"
	"net"
	"os"
	"time"
)

func ask(number int, place string, socket net.Conn) (string, error) {
	socket.SetDeadline(time.Now().Add(15 * time.Second))
	text, answer := fmt.Sprintf("datagram %d", number), make([]byte, 64)
	if _, err := socket.Write([]byte(text)); err != nil {
		return "", err
	}
	length, err := socket.Read(answer)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s: %t", place, string(answer[:length]) == text), nil
}

func askBy(number int, place string, sockets map[string]net.PacketConn) (string, error) {
	to, err := net.ResolveUDPAddr("udp", place)
	if err != nil {
		return "", err
	}
	network := "udp6"
	if to.IP.To4() != nil {
		network = "udp4"
	}
	if sockets[network] == nil {
		if sockets[network], err = net.ListenPacket(network, ":0"); err != nil {
			return "", err
		}
	}
	socket := sockets[network]
	socket.SetDeadline(time.Now().Add(15 * time.Second))
	text, answer := fmt.Sprintf("datagram %d", number), make([]byte, 64)
	if _, err := socket.WriteTo([]byte(text), to); err != nil {
		return "", err
	}
	length, from, err := socket.ReadFrom(answer)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s: %t, by the one asked: %t", place, string(answer[:length]) == text, from.String() == to.String()), nil
}

func main() {
	sockets := map[string]net.PacketConn{}
	for number, place := range os.Args[2:] {
		var line string
		var err error
		if os.Args[1] == "dial" {
			var socket net.Conn
			if socket, err = net.Dial("udp", place); err == nil {
				line, err = ask(number, place, socket)
				socket.Close()
			}
		} else {
			line, err = askBy(number, place, sockets)
		}
		if err != nil {
			line = fmt.Sprintf("%s: %v", place, err)
		}
		fmt.Println(line)
	}
}
