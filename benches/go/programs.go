package main

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	children = 10
	nodes    = 503
	senders  = 1000
	ends     = 4
	capacity = 128
	yieldsOf = 100
	period   = time.Millisecond
)

func skynet(leaves int64) []float64 {
	begin := time.Now()
	c := make(chan int64)
	go node(c, 0, leaves)
	sum := <-c
	took := time.Since(begin)
	if sum != leaves*(leaves-1)/2 {
		fail(fmt.Sprint("the sum is ", sum))
	}
	return []float64{took.Seconds()}
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

func ring(hops int64) []float64 {
	const end = -1
	done := make(chan int64)
	first := make(chan int64)
	left := first
	var all sync.WaitGroup
	all.Add(nodes)
	for node := range nodes {
		last := node+1 == nodes
		from, right := left, first
		if !last {
			right = make(chan int64)
		}
		left = right
		go func() {
			defer all.Done()
			for {
				switch token := <-from; token {
				case 0:
					done <- 0
				case end:
					if !last {
						right <- end
					}
					return
				default:
					right <- token - 1
				}
			}
		}()
	}
	begin := time.Now()
	first <- hops
	<-done
	took := time.Since(begin)
	first <- end
	all.Wait()
	return []float64{nsEach(took, hops)}
}

func sieve(primes int64) []float64 {
	var stop atomic.Bool
	first := make(chan int64)
	begin := time.Now()
	go func() {
		for number := int64(2); !stop.Load(); number++ {
			first <- number
		}
		close(first)
	}()
	numbers := first
	for range primes {
		prime := <-numbers
		from, to := numbers, make(chan int64)
		numbers = to
		go func() {
			for number := range from {
				if number%prime != 0 {
					to <- number
				}
			}
			close(to)
		}()
	}
	took := time.Since(begin)
	stop.Store(true)
	for range numbers {
	}
	return []float64{nsEach(took, primes) / 1e3}
}

func fanIn(items int64) []float64 {
	each := (items + senders - 1) / senders
	c := make(chan int64)
	begin := time.Now()
	for range senders {
		go func() {
			for item := range each {
				c <- item
			}
		}()
	}
	for range each * senders {
		<-c
	}
	return []float64{nsEach(time.Since(begin), each*senders)}
}

func mpmc(items int64) []float64 {
	each := (items + ends - 1) / ends
	c := make(chan int64, capacity)
	var all sync.WaitGroup
	all.Add(2 * ends)
	begin := time.Now()
	for range ends {
		go func() {
			for item := range each {
				c <- item
			}
			all.Done()
		}()
		go func() {
			for range each {
				<-c
			}
			all.Done()
		}()
	}
	all.Wait()
	return []float64{nsEach(time.Since(begin), each*ends)}
}

func yields(goroutines int64) []float64 {
	var all sync.WaitGroup
	all.Add(int(goroutines))
	begin := time.Now()
	for range goroutines {
		go func() {
			for range yieldsOf {
				runtime.Gosched()
			}
			all.Done()
		}()
	}
	all.Wait()
	return []float64{nsEach(time.Since(begin), goroutines*yieldsOf)}
}

func ping(pings int64) []float64 {
	c := make(chan time.Time)
	told := make(chan []time.Duration)
	go func() {
		var late []time.Duration
		for range pings {
			sent := <-c
			late = append(late, time.Since(sent))
		}
		told <- late
	}()
	before := cpu()
	next := time.Now()
	for range pings {
		now := time.Now()
		for !next.After(now) {
			next = next.Add(period)
		}
		time.Sleep(next.Sub(now))
		c <- time.Now()
	}
	late := <-told
	used := cpu() - before
	slices.Sort(late)
	return []float64{micros(quantile(late, 500)), micros(quantile(late, 990)), micros(quantile(late, 999)),
		nsEach(used, pings) / 1e3}
}

func ticker(count int64) []float64 {
	begin := time.Now()
	ticks := time.NewTicker(period)
	var late []time.Duration
	for range count {
		<-ticks.C
		late = append(late, time.Since(begin)%period)
	}
	slices.Sort(late)
	return []float64{micros(quantile(late, 500))}
}

func micros(d time.Duration) float64 {
	return float64(d.Nanoseconds()) / 1e3
}

// quantile is what so many of a thousand are not above. They are sorted.
func quantile(sorted []time.Duration, perMille int) time.Duration {
	at := (len(sorted)*perMille + 999) / 1000
	return sorted[max(at, 1)-1]
}
