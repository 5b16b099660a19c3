// Package pairing makes sure that an exporter belongs to its server: that it reads the same
// records, writes to the same folder, and releases by the same rules and within the same limits.
// The server's side (Server) publishes its terms in a record that every exporter follows. The
// exporter's side (Member) compares the terms with its own state whenever one of them changes,
// and takes commands only while nothing differs. An exporter in the server's process is a Member
// like any other.
//
//	Server --terms--> KV ehi_fleet --follow--> Member --admission--> workers
//	  ^                    |                      |
//	  +---- new text <-----+------- joins <-------+
//
// The server writes a new text to the exports folder whenever an exporter joins. An exporter
// that finds the text uses the same folder.
//
// An exporter that does not belong does not even ask for commands, so they remain for others.
package pairing
