// The measurements of measure.rs, line by line.
package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	batchSize = 10_000
	children  = 10
	settle    = 100 * time.Millisecond
)

var arrived, gone atomic.Int64

func main() {
	if len(os.Args) != 3 {
		fail("usage: million SCENARIO COUNT")
	}
	count, err := strconv.ParseInt(os.Args[2], 10, 64)
	if err != nil {
		fail(err)
	}
	switch os.Args[1] {
	case "park_million":
		parkAndClose(count)
	case "spawn_run":
		spawnRun(count)
	case "skynet":
		skynet(count)
	default:
		fail("there is no scenario " + os.Args[1])
	}
}

func parkAndClose(count int64) {
	before := memoryNow()
	c := make(chan int64)
	begin := time.Now()
	for range count {
		go func() {
			arrived.Add(1)
			if _, ok := <-c; ok {
				panic("received from a channel that nobody sends on")
			}
			gone.Add(1)
		}()
	}
	waitFor(&arrived, count)
	park := time.Since(begin)
	time.Sleep(settle)
	after := memoryNow()
	begin = time.Now()
	close(c)
	waitFor(&gone, count)
	closed := time.Since(begin)
	each := func(total int64) float64 { return float64(total) / float64(count) }
	fmt.Println(nsEach(park, count), each(after.rss-before.rss), each(after.pageTables-before.pageTables),
		after.maps, nsEach(closed, count))
}

func waitFor(counter *atomic.Int64, count int64) {
	for counter.Load() < count {
		runtime.Gosched()
	}
}

func spawnRun(count int64) {
	batch := min(batchSize, count)
	begin := time.Now()
	for range count / batch {
		var wg sync.WaitGroup
		wg.Add(int(batch))
		for range batch {
			go func() { wg.Done() }()
		}
		wg.Wait()
	}
	fmt.Println(nsEach(time.Since(begin), count))
}

func skynet(leaves int64) {
	begin := time.Now()
	c := make(chan int64)
	go node(c, 0, leaves)
	sum := <-c
	took := time.Since(begin)
	if sum != leaves*(leaves-1)/2 {
		fail(fmt.Sprint("the sum is ", sum))
	}
	fmt.Println(took.Seconds())
}

func node(parent chan<- int64, first, leaves int64) {
	if leaves == 1 {
		parent <- first
		return
	}
	c := make(chan int64)
	share := leaves / children
	for child := range int64(children) {
		go node(c, first+child*share, share)
	}
	var sum int64
	for range children {
		sum += <-c
	}
	parent <- sum
}

func nsEach(took time.Duration, count int64) float64 {
	return float64(took.Nanoseconds()) / float64(count)
}

type memory struct{ rss, pageTables, maps int64 }

func memoryNow() memory {
	status := read("/proc/self/status")
	maps := bytes.Count(read("/proc/self/maps"), []byte("\n"))
	return memory{inBytes(status, "VmRSS:"), inBytes(status, "VmPTE:"), int64(maps)}
}

func inBytes(status []byte, name string) int64 {
	for line := range strings.Lines(string(status)) {
		var kib int64
		if _, err := fmt.Sscanf(line, name+" %d kB", &kib); err == nil {
			return kib * 1024
		}
	}
	fail("no " + name + " in /proc/self/status")
	return 0
}

func read(path string) []byte {
	data, err := os.ReadFile(path)
	if err != nil {
		fail(err)
	}
	return data
}

func fail(problem any) {
	fmt.Fprintln(os.Stderr, problem)
	os.Exit(1)
}
