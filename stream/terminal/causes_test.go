package terminal

import (
	"errors"
	"fmt"
	"testing"
)

// lost is an error that may be whole.
type lost struct{ whole bool }

func (l lost) Error() string { return fmt.Sprintf("lost %v\nsee to it", l.whole) }
func (l lost) Whole() bool   { return l.whole }

// TestCauses: joined errors are printed one by one, each once, and layers around
// an error that says all are left out.
func TestCauses(t *testing.T) {
	plain := errors.New("plain")
	wrap := func(err error) error { return fmt.Errorf("copying: %w", fmt.Errorf("a.ibd: %w", err)) }
	for _, test := range []struct {
		err  error
		want string
	}{
		{plain, "plain"},
		{wrap(plain), "copying: a.ibd: plain"},
		{wrap(lost{true}), "lost true\nsee to it"},
		{wrap(lost{false}), "copying: a.ibd: lost false\nsee to it"},
		{errors.Join(wrap(lost{true}), plain, errors.Join(wrap(lost{true}), errors.New("more"))), "lost true\nsee to it\nplain\nmore"},
		{errors.Join(wrap(plain)), "copying: a.ibd: plain"},
		{fmt.Errorf("%w: %w", plain, errors.New("other")), "plain: other"},
	} {
		if got := Causes(test.err); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}
