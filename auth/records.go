package auth

import "ehi-server/shared/subject"

// The kinds of records in the bucket, by key prefix. The package comment describes them.
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
	// firstKey is where the first version of the server stored its single key. It signs until it
	// is rotated, so that processes of both versions can run side by side.
	firstKey = keyRecords.Of("current")
	// rotatingKey is a lock that the rotating process holds for a limited time.
	rotatingKey = subject.Kind{}.Of("rotating")
)
