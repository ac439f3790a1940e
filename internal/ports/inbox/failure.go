package inbox

import "errors"

// Failed returns the letter after a failure: Retrying, or Dead if the failure is permanent or the limit is reached. An outage does not count.
func (l Letter) Failed(failure Failure) Letter {
	l.Error = failure.Cause.Error()
	l.NoHandler = errors.Is(failure.Cause, ErrNoHandler)
	l.State = Retrying
	if failure.Outage {
		return l
	}
	l.Attempts++
	if failure.Permanent || l.Attempts >= failure.Limit {
		l.State = Dead
	}
	return l
}
