package innodb

// UnsupportedError says that hb cannot handle something that need not be wrong.
type UnsupportedError struct{ What string }

func (e *UnsupportedError) Error() string { return e.What }

// InternalError says that hb itself is at fault, and nothing that it was given.
type InternalError struct{ What string }

func (e *InternalError) Error() string { return "internal error of hb: " + e.What }
