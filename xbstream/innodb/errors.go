package innodb

// UnsupportedError says that hb cannot handle something that may be valid.
type UnsupportedError struct{ What string }

func (e *UnsupportedError) Error() string { return e.What }

// InternalError says that hb itself is at fault, not its input.
type InternalError struct{ What string }

func (e *InternalError) Error() string { return "internal error of hb: " + e.What }
