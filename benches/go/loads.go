package main

import (
	"math"
	"runtime"
	"sync"
	"time"
)

const (
	operations = 100_000
	tries      = 3
)

// beside measures some operations, and keeps the load until then.
func beside(load any) []float64 {
	var figures []float64
	for _, op := range []func(){handOver, create, startAndStop, yieldInTurns} {
		best := math.Inf(1)
		for range tries {
			begin := time.Now()
			op()
			best = min(best, nsEach(time.Since(begin), operations))
		}
		figures = append(figures, best)
	}
	runtime.KeepAlive(load)
	return figures
}

func parked(count int64) any {
	hold := make(chan struct{})
	var ready sync.WaitGroup
	ready.Add(int(count))
	for range count {
		go func() {
			ready.Done()
			<-hold
		}()
	}
	ready.Wait()
	return hold
}

func timers(count int64) any {
	var all []*time.Timer
	for range count {
		all = append(all, time.AfterFunc(time.Hour, func() {}))
	}
	return all
}

func channels(count int64) any {
	var all []chan uint64
	for range count {
		all = append(all, make(chan uint64, 1))
	}
	return all
}

func handOver() {
	c := make(chan uint64)
	go func() {
		for i := range uint64(operations) {
			c <- i
		}
	}()
	for range operations {
		<-c
	}
}

func create() {
	done := make(chan struct{})
	link(operations, done)
	<-done
}

func link(n int, done chan<- struct{}) {
	if n == 0 {
		done <- struct{}{}
	} else {
		go link(n-1, done)
	}
}

func startAndStop() {
	for range operations {
		time.AfterFunc(time.Hour, func() {}).Stop()
	}
}

func yieldInTurns() {
	var all sync.WaitGroup
	all.Add(2)
	for range 2 {
		go func() {
			for range operations / 2 {
				runtime.Gosched()
			}
			all.Done()
		}()
	}
	all.Wait()
}
