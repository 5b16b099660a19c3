package auth

import "ehi-server/shared/subject"

// The records of the bucket, by the beginning of their keys; the package's comment says what
// each is.
var (
	accountRecords = subject.KindOf("account")
	clientRecords  = subject.KindOf("client")
	codeRecords    = subject.KindOf("code")
	consentRecords = subject.KindOf("consent")
	failureRecords = subject.KindOf("failures")
	jtiRecords     = subject.KindOf("jti")
	keyRecords     = subject.KindOf("key")
	refreshRecords = subject.KindOf("refresh")
	revokedRecords = subject.KindOf("revoked")
	usedRecords    = subject.KindOf("used")
	// firstKey is where the first version of the server kept its one key. It signs until it is
	// rotated, so that processes of both versions can work side by side.
	firstKey = keyRecords.Of("current")
	// rotatingKey is held for a while by the process that rotates.
	rotatingKey = subject.Kind{}.Of("rotating")
)
