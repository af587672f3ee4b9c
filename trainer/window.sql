-- The window's file. Triggers keep its rule: what no event (and no listing) uses any more is gone with the event.
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- Of each partition [start, stop) is wanted, and [start, next) is here.
CREATE TABLE stretches (
  topic TEXT, partition INTEGER, start INTEGER NOT NULL, next INTEGER NOT NULL, stop INTEGER NOT NULL,
  PRIMARY KEY (topic, partition)
) WITHOUT ROWID;

-- Records that became no event, and why; nothing of what they said.
CREATE TABLE left_out (
  topic TEXT, partition INTEGER, offset INTEGER, reason TEXT NOT NULL, PRIMARY KEY (topic, partition, offset)
) WITHOUT ROWID;

-- The newest tombstone of a user (keyed hash) in a partition. It stays when its record has left the window: an older
-- event in another partition may not have been read yet.
CREATE TABLE erased (
  user BLOB, partition INTEGER, timestamp INTEGER NOT NULL, PRIMARY KEY (user, partition)
) WITHOUT ROWID;

CREATE TABLE users (id INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE); -- keyed hash
CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE labels (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE texts (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, text TEXT NOT NULL); -- cleaned, never empty
CREATE TABLE vectors (
  text INTEGER, space TEXT, vector BLOB NOT NULL, PRIMARY KEY (text, space) -- float16, little-endian
);

-- What events called an item; text: the title cleaned, NULL where nothing is left of it.
CREATE TABLE titles (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, text INTEGER);
CREATE INDEX titles_text ON titles (text);

-- The catalogue; seen: by the run under way.
CREATE TABLE listings (
  item TEXT PRIMARY KEY, title TEXT NOT NULL, text INTEGER, available INTEGER NOT NULL, expires INTEGER,
  seen INTEGER NOT NULL
);
CREATE INDEX listings_text ON listings (text);

CREATE TABLE events (
  id INTEGER PRIMARY KEY, partition INTEGER NOT NULL, offset INTEGER NOT NULL, timestamp INTEGER NOT NULL,
  occurred INTEGER NOT NULL, user INTEGER NOT NULL, text INTEGER, item INTEGER, title INTEGER, weight REAL NOT NULL,
  lang TEXT NOT NULL, event_id INTEGER, UNIQUE (partition, offset)
);
CREATE INDEX events_user ON events (user);
CREATE INDEX events_text ON events (text);
CREATE INDEX events_item ON events (item);
CREATE INDEX events_title ON events (title);

CREATE TABLE event_labels (
  event INTEGER, nth INTEGER, label INTEGER NOT NULL, PRIMARY KEY (event, nth)
) WITHOUT ROWID;
CREATE INDEX event_labels_label ON event_labels (label);

CREATE VIEW used_texts AS
  SELECT text FROM events UNION ALL SELECT text FROM titles UNION ALL SELECT text FROM listings;

CREATE TRIGGER event_gone AFTER DELETE ON events BEGIN
  DELETE FROM event_labels WHERE event = OLD.id;
  DELETE FROM users WHERE id = OLD.user AND NOT EXISTS (SELECT 1 FROM events WHERE user = OLD.user);
  DELETE FROM items WHERE id = OLD.item AND NOT EXISTS (SELECT 1 FROM events WHERE item = OLD.item);
  DELETE FROM titles WHERE id = OLD.title AND NOT EXISTS (SELECT 1 FROM events WHERE title = OLD.title);
  DELETE FROM texts WHERE id = OLD.text AND NOT EXISTS (SELECT 1 FROM used_texts WHERE text = OLD.text);
END;
CREATE TRIGGER event_label_gone AFTER DELETE ON event_labels BEGIN
  DELETE FROM labels WHERE id = OLD.label AND NOT EXISTS (SELECT 1 FROM event_labels WHERE label = OLD.label);
END;
CREATE TRIGGER title_gone AFTER DELETE ON titles BEGIN
  DELETE FROM texts WHERE id = OLD.text AND NOT EXISTS (SELECT 1 FROM used_texts WHERE text = OLD.text);
END;
CREATE TRIGGER listing_gone AFTER DELETE ON listings BEGIN
  DELETE FROM texts WHERE id = OLD.text AND NOT EXISTS (SELECT 1 FROM used_texts WHERE text = OLD.text);
END;
CREATE TRIGGER listing_changed AFTER UPDATE OF text ON listings BEGIN
  DELETE FROM texts WHERE id = OLD.text AND NOT EXISTS (SELECT 1 FROM used_texts WHERE text = OLD.text);
END;
CREATE TRIGGER text_gone AFTER DELETE ON texts BEGIN
  DELETE FROM vectors WHERE text = OLD.id;
END;
