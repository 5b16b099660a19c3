// Package auth is the SMART App Launch authorization server: clients, accounts, scopes, codes,
// tokens and keys (SMART-1 to 10). It knows who a client or a person is and what a token opens;
// it knows nothing of jobs and nothing of HTTP: the api module translates between HTTP and
// calls.
//
//	authorize request --Check--> Request --patient agrees--> Code --redeem--> Tokens --Verify--> Access
//	                                                                 \--refresh, rotated--/
//
// All state is in one KV bucket, so that any number of API processes are one authorization
// server:
//
//	client.<id>               a registered client; its secret as a hash
//	account.<kind>.<hash>     an account of a patient or an administrator, with the hash of its
//	                          password and an administrator's second factor; an account of
//	                          kind config has a second factor only
//	failures.<hash>           the number of wrong passwords or codes of a name since the last
//	                          right one (a day)
//	key.<kid>                 a signing key; key.current is the first version's
//	rotating                  held by the process that rotates the keys (a minute)
//	code.<hash>               an issued code (60 s)
//	refresh.<hash>            an issued refresh token
//	used.<hash>               the tombstone of either: its creation redeems the secret, later
//	                          attempts are replays
//	revoked.<family>          revokes everything that was issued under one authorization
//	consent.<hash>.<family>   an application to which a patient has granted access, while it
//	                          holds tokens
//	jti.<hash>                a used assertion, for as long as it is valid
//
// The api module counts failures in the same bucket (abuse.<a or c>.<hash>). Every process
// follows clients, administrators, keys and revocations, so that a change takes effect in all of
// them within milliseconds.
//
// Codes and refresh tokens are random and stored as hashes only; passwords and clients' secrets
// are stored as argon2id hashes.
package auth
