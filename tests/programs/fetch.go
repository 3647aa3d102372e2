// An HTTP client as Go programs have it: fetch get URL…, fetch many COUNT URL, fetch dial ADDRESS…
//
// A page is printed as it is, an error as Go words it, without its address.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

func page(url string) (string, error) {
	answer, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return string(body), err
}

func cause(err error) string {
	var unknown *net.DNSError
	if errors.As(err, &unknown) {
		return "no such name: " + unknown.Err
	}
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return err.Error()
}

// many fetches at once, with a connection each, and prints how many brought the same page as the first.
func many(count int, url string) {
	http.DefaultTransport.(*http.Transport).DisableKeepAlives = true
	var group sync.WaitGroup
	pages := make([]string, count)
	for number := range pages {
		group.Add(1)
		go func(number int) {
			defer group.Done()
			body, err := page(url)
			if err != nil {
				body = cause(err)
			}
			pages[number] = body
		}(number)
	}
	group.Wait()
	counts := map[string]int{}
	for _, body := range pages {
		counts[body]++
	}
	for body, times := range counts {
		fmt.Printf("%d × %s", times, body)
	}
}

func dial(address string) {
	connection, err := net.DialTimeout("tcp", address, 20*time.Second)
	if err != nil {
		fmt.Println(cause(err))
		return
	}
	defer connection.Close()
	fmt.Println("connected to port", connection.RemoteAddr().(*net.TCPAddr).Port)
}

func main() {
	switch os.Args[1] {
	case "get":
		for _, url := range os.Args[2:] {
			body, err := page(url)
			if err != nil {
				fmt.Println(cause(err))
				continue
			}
			fmt.Print(body)
		}
	case "many":
		count, _ := strconv.Atoi(os.Args[2])
		many(count, os.Args[3])
	case "dial":
		for _, address := range os.Args[2:] {
			dial(address)
		}
	case "addresses":
		for _, name := range os.Args[2:] {
			found, err := net.LookupHost(name)
			if err != nil {
				fmt.Println(cause(err))
				continue
			}
			fmt.Println(found)
		}
	}
}
