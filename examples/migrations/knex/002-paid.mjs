/** @param {import('knex').Knex} knex */
export async function up(knex) {
  await knex.schema.alterTable('orders', (table) => table.timestamp('paid_at'))
}

/** @param {import('knex').Knex} knex */
export async function down(knex) {
  await knex.schema.alterTable('orders', (table) => table.dropColumn('paid_at'))
}
