/**
 * The clients themselves, for tests that need more of them than index.mjs offers.
 */
import mariadb from 'mariadb'
import mysqlWithCallbacks from 'mysql2'
import mysql from 'mysql2/promise'
import pg from 'pg'
import postgres from 'postgres'

export default { mariadb, mysql, mysqlWithCallbacks, pg, postgres }
