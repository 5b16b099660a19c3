package server

import "ehi-server/shared/subject"

// The parts of the bucket of sessions. What the pages keep otherwise, such as a form's draft, has keys
// without a beginning.
var (
	patientSessions = subject.KindOf("patient")
	staffSessions   = subject.KindOf("admin")
)
