package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	batchSize = 10_000
	settle    = 100 * time.Millisecond
)

var arrived, gone atomic.Int64

func parkAndClose(count int64) []float64 {
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
	return []float64{nsEach(park, count), each(after.rss - before.rss), each(after.pageTables - before.pageTables),
		float64(after.maps), nsEach(closed, count)}
}

func waitFor(counter *atomic.Int64, count int64) {
	for counter.Load() < count {
		runtime.Gosched()
	}
}

func spawnRun(count int64) []float64 {
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
	return []float64{nsEach(time.Since(begin), count)}
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
