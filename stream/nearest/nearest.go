// Package nearest finds the word that a misspelled one was perhaps meant to be.
package nearest

import "strings"

// maxNearest bounds how many names are asked for, and maxWord how many bytes a word
// has that may be a name.
const (
	maxNearest = 3
	maxWord    = 64
)

// To returns the names that a word was perhaps meant to be: the only one that it
// begins, or else those that differ in the fewest letters, if those are few, or
// else all that it begins.
func To(word string, names []string) []string {
	if word == "" || len(word) > maxWord {
		return nil
	}
	var begun, near []string
	least := 1 + len(word)/4
	for _, name := range names {
		if strings.HasPrefix(name, word) {
			begun = append(begun, name)
		}
		d := distance(word, name)
		if d < least {
			near, least = nil, d
		}
		if d == least {
			near = append(near, name)
		}
	}
	if len(begun) == 1 || len(near) == 0 {
		near = begun
	}
	return near[:min(len(near), maxNearest)]
}

// distance is how many letters must be added, removed, changed or swapped with
// their neighbours to make one word the other.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
