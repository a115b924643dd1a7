import mariadb from 'mariadb'
/** The clients themselves, for tests that need more than stores.mjs has. Here, because their packages are this folder's. */
import mysqlWithCallbacks from 'mysql2'
import mysql from 'mysql2/promise'
import pg from 'pg'
import postgres from 'postgres'

export default { mariadb, mysql, mysqlWithCallbacks, pg, postgres }
