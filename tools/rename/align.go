package main

import (
	"go/scanner"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// cell is a text in a line of a table: two spaces or more stand between cells.
type cell struct {
	from, to int // in characters of the old line
	text     string
}

var separator = regexp.MustCompile(`(\S) {2,}`)

// aligned returns after, whose words have other lengths than those of before, with the columns of its tables in line again. The cells of a
// column begin at the same character. If the widest cell had two spaces behind it, a program had made the column as wide as its widest cell.
// Otherwise the width was fixed.
func aligned(before, after string) string {
	old, lines := strings.Split(before, "\n"), strings.Split(after, "\n")
	if before == after || len(old) != len(lines) {
		return after
	}
	for from := 0; from < len(old); {
		to := from
		for to < len(old) && strings.TrimSpace(old[to]) != "" {
			to++
		}
		alignTable(old[from:to], lines[from:to])
		from = to + 1
	}
	return strings.Join(lines, "\n")
}

func alignTable(old, lines []string) {
	if slices.Equal(old, lines) {
		return
	}
	before, after := make([][]cell, len(old)), make([][]cell, len(old))
	starts := make(map[int]bool)
	for i := range old {
		before[i], after[i] = cellsOf(old[i]), cellsOf(lines[i])
		if len(before[i]) != len(after[i]) {
			return
		}
		for _, c := range before[i][1:] {
			starts[c.from] = true
		}
	}
	built, shift := make([]string, len(old)), make([]int, len(old))
	next := make([]int, len(old)) // index of the next cell of each line
	for i := range after {
		built[i], next[i] = after[i][0].text, 1
	}
	columns := make([]int, 0, len(starts))
	for start := range starts {
		columns = append(columns, start)
	}
	slices.Sort(columns)
	for _, start := range columns {
		var members []int
		gap, widest, carried := start, 0, 0
		for i := range before {
			if next[i] < len(before[i]) && before[i][next[i]].from == start {
				members = append(members, i)
				gap = min(gap, start-before[i][next[i]-1].to)
				widest = max(widest, utf8.RuneCountInString(built[i]))
				carried = max(carried, start+shift[i])
			}
		}
		begin := widest + 2
		if gap > 2 {
			begin = max(begin, carried)
		}
		for _, i := range members {
			built[i] += strings.Repeat(" ", begin-utf8.RuneCountInString(built[i])) + after[i][next[i]].text
			shift[i] = begin - start
			next[i]++
		}
	}
	copy(lines, built)
}

// cellsOf splits a line. The first cell has the line's indentation.
func cellsOf(line string) []cell {
	var cells []cell
	done := 0
	for _, span := range separator.FindAllStringSubmatchIndex(line, -1) {
		cells = append(cells, cellAt(line, done, span[3]))
		done = span[1]
	}
	return append(cells, cellAt(line, done, len(line)))
}

func cellAt(line string, from, to int) cell {
	return cell{from: utf8.RuneCountInString(line[:from]), to: utf8.RuneCountInString(line[:to]), text: line[from:to]}
}

// alignedInGo aligns the tables in the raw strings of a Go file.
func alignedInGo(before, after string) string {
	old, renamed := rawStrings(before), rawStrings(after)
	if len(old) != len(renamed) {
		return after
	}
	var out strings.Builder
	done := 0
	for i, span := range renamed {
		out.WriteString(after[done:span.from] + aligned(before[old[i].from:old[i].to], after[span.from:span.to]))
		done = span.to
	}
	return out.String() + after[done:]
}

// rawStrings returns where the raw strings of more than one line are, without their quotation marks.
func rawStrings(text string) (spans []part) {
	set := token.NewFileSet()
	source := set.AddFile("", set.Base(), len(text))
	var s scanner.Scanner
	s.Init(source, []byte(text), nil, 0)
	for {
		pos, kind, literal := s.Scan()
		if kind == token.EOF {
			return spans
		}
		if kind == token.STRING && literal[0] == '`' && strings.Contains(literal, "\n") {
			from := source.Offset(pos) + 1
			spans = append(spans, part{from, from + len(literal) - 2})
		}
	}
}
